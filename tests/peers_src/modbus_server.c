/* A Modbus TCP server on libmodbus, for many clients and any unit.
 *
 * modbus_server [PORT]: listens on 127.0.0.1 (0 = any free port), says "listening on PORT", serves until killed.
 * 1000 of each table; at the start holding register a holds 3a+7, input register a holds 60000-a, coil a is set where
 * a is a multiple of 3, discrete input a where a is a multiple of 5. What is written stays. At SIGUSR1 it says what
 * stands in its memory: "memory WRITES REGISTERS COILS", the number of requests that wrote, and hexadecimal digits,
 * four for each holding register, one for each coil.
 */
#include <signal.h>
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

static volatile sig_atomic_t asked;
static unsigned writes;

static void ask(int number)
{
    (void)number;
    asked = 1;
}

static void tell(const modbus_mapping_t *map)
{
    printf("memory %u ", writes);
    for (int a = 0; a < TABLE; a++)
        printf("%04x", map->tab_registers[a]);
    printf(" ");
    for (int a = 0; a < TABLE; a++)
        printf("%d", map->tab_bits[a]);
    printf("\n");
    fflush(stdout);
}

static int is_write(int function)
{
    return function == 5 || function == 6 || function == 15 || function == 16 || function == 22 || function == 23;
}

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
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = ask}, NULL);
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
        if (asked) {
            asked = 0;
            tell(map);
        }
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0) {
            if (errno == EINTR)
                continue;
            return 1;
        }
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
            if (length > 7)
                writes += is_write(query[7]);
            if (length > 0)
                modbus_reply(context, query, length, map);
            else if (length < 0) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
}
