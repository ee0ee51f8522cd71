/* A Modbus TCP server on libmodbus, for many clients and any unit.
 *
 * modbus_server [PORT]: listens on 127.0.0.1 (0 = any free port), says "listening on PORT", serves until killed.
 * 1000 of each table; at the start holding register a holds 3a+7, input register a holds 60000-a, coil a is set where
 * a is a multiple of 3, discrete input a where a is a multiple of 5. What is written stays.
 */
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TABLE = 1000 };

static void fill(modbus_mapping_t *map)
{
    for (int a = 0; a < TABLE; a++) {
        map->tab_registers[a] = (uint16_t)(3 * a + 7);
        map->tab_input_registers[a] = (uint16_t)(60000 - a);
        map->tab_bits[a] = a % 3 == 0;
        map->tab_input_bits[a] = a % 5 == 0;
    }
}

int main(int argc, char **argv)
{
    modbus_t *context = modbus_new_tcp("127.0.0.1", argc > 1 ? atoi(argv[1]) : 0);
    modbus_mapping_t *map = modbus_mapping_new(TABLE, TABLE, TABLE, TABLE);
    struct sockaddr_in where;
    socklen_t size = sizeof where;
    fd_set all;
    int listener, highest, one = 1;

    if (!context || !map)
        return 1;
    fill(map);
    listener = modbus_tcp_listen(context, 64);
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&where, &size)) {
        fprintf(stderr, "no listener: %s\n", modbus_strerror(errno));
        return 1;
    }
    printf("listening on %d\n", ntohs(where.sin_port));
    fflush(stdout);
    FD_ZERO(&all);
    FD_SET(listener, &all);
    highest = listener;
    for (;;) {
        fd_set ready = all;
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0)
            return 1;
        for (int fd = 0; fd <= highest; fd++) {
            uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
            int length;
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0)
                    continue;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                FD_SET(client, &all);
                highest = client > highest ? client : highest;
                continue;
            }
            modbus_set_socket(context, fd);
            length = modbus_receive(context, query);
            if (length > 0)
                modbus_reply(context, query, length, map);
            else if (length < 0) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
}
