/* A Modbus RTU server on libmodbus, for one unit of a serial line.
 *
 * modbus_rtu_server DEVICE BAUDRATE PARITY UNIT: PARITY is N, E or O; says "serving" when the line is open, serves until
 * killed. 1000 of each table; at the start holding register a holds 3a+7, input register a holds 60000-a, coil a is set
 * where a is a multiple of 3, discrete input a where a is a multiple of 5. What is written stays.
 */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>

enum { TABLE = 1000 };

int main(int argc, char **argv)
{
    modbus_t *context;
    modbus_mapping_t *map = modbus_mapping_new(TABLE, TABLE, TABLE, TABLE);
    uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];

    if (argc != 5 || !map)
        return 2;
    context = modbus_new_rtu(argv[1], atoi(argv[2]), argv[3][0], 8, argv[3][0] == 'N' ? 2 : 1);
    if (!context || modbus_set_slave(context, atoi(argv[4])) || modbus_connect(context)) {
        fprintf(stderr, "no line: %s\n", modbus_strerror(errno));
        return 1;
    }
    for (int a = 0; a < TABLE; a++) {
        map->tab_registers[a] = (uint16_t)(3 * a + 7);
        map->tab_input_registers[a] = (uint16_t)(60000 - a);
        map->tab_bits[a] = a % 3 == 0;
        map->tab_input_bits[a] = a % 5 == 0;
    }
    puts("serving");
    fflush(stdout);
    for (;;) {
        int length = modbus_receive(context, query);
        if (length > 0)
            modbus_reply(context, query, length, map);
        else if (length < 0 && errno == EIO)
            return 0;
    }
}
