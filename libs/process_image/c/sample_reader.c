/* sample_reader.c - look into a segment of a CPC partition; shows every call of process_image.h.
 *
 *     cc -std=c11 -O2 -o sample_reader sample_reader.c
 *     ./sample_reader modbus_shm                      every point: quality, sequence, value
 *     ./sample_reader modbus_shm --point Ecotec/M8    one point
 *     ./sample_reader modbus_shm --points             name, type, device, unit of every point
 *     ./sample_reader modbus_shm --lock               as the first, holding the public semaphore meanwhile
 *     ./sample_reader modbus_shm --changes [EPOCH:POSITION]   what the journal holds (after a cursor), then the cursor
 *     ./sample_reader modbus_shm --follow SECONDS     changes as they come
 *
 * Fields are separated by tabs. Exit status: 0 done, 1 fault, 2 usage, 3 no such segment or point.
 */
#define PROCESS_IMAGE_IMPLEMENTATION
#include "process_image.h"

static const char *const type_names[] = {"?", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
                                         "uint64", "float32", "float64", "string", "bytes"};

static int64_t now(void) { /* ns on the monotonic clock */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void print_text(const pi_value *v) { /* JSON string, or hexadecimal digits for bytes */
    if (v->kind == PI_BYTES) {
        for (uint32_t i = 0; i < v->length; i++) printf("%02x", (unsigned char)v->text[i]);
        return;
    }
    putchar('"');
    for (uint32_t i = 0; i < v->length; i++) {
        unsigned char c = (unsigned char)v->text[i];
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 0x20) printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

static void print_value(const pi_value *v) {
    switch (v->kind) {
    case PI_BOOLEAN: printf("%s", v->boolean ? "true" : "false"); break;
    case PI_SIGNED: printf("%" PRId64, v->integer); break;
    case PI_UNSIGNED: printf("%" PRIu64, v->natural); break;
    case PI_REAL: printf("%.17g", v->real); break;
    case PI_TEXT:
    case PI_BYTES: print_text(v); break;
    default: printf("null");
    }
    if (v->cut) printf("...");
}

static void print_record(const pi_point *point, const pi_record *r, const pi_value *v) {
    printf("%s\t%08" PRIx32 "\t%" PRIu32 "\t%" PRId64 "\t%" PRId64 "\t%" PRIu64 "\t", point->name, r->quality,
           r->sequence, r->source_time, r->received_time, r->raw);
    print_value(v);
    putchar('\n');
}

static pi_status print_snapshot(pi_image *image, const char *name, int lock) {
    pi_snapshot snapshot = {0};
    const pi_point *points;
    int locked = lock && pi_lock(image, 1000000000) == PI_OK; /* not free: the copy is coherent without it, too */
    pi_status status = pi_take(image, &snapshot);
    if (locked) pi_unlock(image);
    if (status != PI_OK) return status;
    uint32_t count = pi_points(image, &points);
    int64_t only = name ? pi_find(image, name) : -1;
    printf("# epoch %016" PRIx64 " generation %" PRIu64 "%s%s\n", snapshot.epoch, snapshot.generation,
           snapshot.stale ? " stale" : "", locked ? " locked" : "");
    for (uint32_t row = 0; row < count; row++) {
        pi_value value;
        if ((name && row != only) || pi_value_at(image, &snapshot, row, &value) != PI_OK) continue;
        print_record(&points[row], &snapshot.records[row], &value);
    }
    pi_snapshot_free(&snapshot);
    return name && only < 0 ? PI_NOT_FOUND : PI_OK;
}

static void print_points(const pi_image *image) {
    const pi_point *points;
    uint32_t count = pi_points(image, &points);
    for (uint32_t row = 0; row < count; row++) {
        char device[512] = "", unit[512] = "";
        pi_property(image, row, "device", device, sizeof device);
        pi_property(image, row, "unit", unit, sizeof unit);
        printf("%s\t%s\t%s\t%s%s\n", points[row].name, type_names[points[row].type], device, unit,
               points[row].flags & PI_FLAG_WRITABLE ? "\twritable" : "");
    }
}

/* Print what the journal holds after the cursor; PI_TIMEOUT at its end. */
static pi_status print_changes(pi_image *image, pi_cursor *cursor, pi_changes *batch) {
    pi_status status;
    while ((status = pi_read_changes(image, cursor, batch)) == PI_OK) {
        if (batch->new_epoch) printf("# new epoch %016" PRIx64 "\n", batch->epoch);
        if (batch->lost) printf("# lost %" PRIu64 "\n", batch->lost);
        for (size_t i = 0; i < batch->count; i++) {
            pi_value value;
            pi_change_value(batch, i, &value);
            print_record(&batch->points[batch->rows[i]], &batch->records[i], &value);
        }
    }
    fflush(stdout);
    return status;
}

static pi_status follow(pi_image *image, pi_cursor *cursor, double seconds) {
    pi_changes batch = {0};
    pi_status status = print_changes(image, cursor, &batch);
    int64_t until = now() + (int64_t)(seconds * 1e9), left;
    while (status == PI_TIMEOUT && (left = until - now()) > 0) {
        status = pi_wait(image, left);
        if (status == PI_OK) status = print_changes(image, cursor, &batch);
    }
    printf("# cursor %016" PRIx64 ":%" PRIu64 "\n", cursor->epoch, cursor->position);
    pi_changes_free(&batch);
    return status == PI_TIMEOUT ? PI_OK : status;
}

static int usage(void) {
    fputs("usage: sample_reader SEGMENT [--point NAME | --points | --lock | --changes [EPOCH:POSITION] | "
          "--follow SECONDS]\n", stderr);
    return 2;
}

static pi_status run(pi_image *image, const char *mode, const char *argument) {
    pi_cursor cursor = {0, 0};
    if (!strcmp(mode, "--points")) {
        print_points(image);
        return PI_OK;
    }
    if (!strcmp(mode, "--changes")) {
        if (argument && sscanf(argument, "%" SCNx64 ":%" SCNu64, &cursor.epoch, &cursor.position) != 2)
            return PI_ARGUMENT;
        return follow(image, &cursor, 0);
    }
    if (!strcmp(mode, "--follow")) return follow(image, &cursor, strtod(argument, NULL));
    return print_snapshot(image, strcmp(mode, "--point") ? NULL : argument, !strcmp(mode, "--lock"));
}

int main(int count, char **arguments) {
    const char *mode = count > 2 ? arguments[2] : "", *argument = count > 3 ? arguments[3] : NULL;
    int wants = !strcmp(mode, "--point") || !strcmp(mode, "--follow"), known = wants || !*mode;
    known = known || !strcmp(mode, "--points") || !strcmp(mode, "--lock") || !strcmp(mode, "--changes");
    if (count < 2 || count > 4 || !known || (wants && !argument)) return usage();
    char message[400] = "";
    pi_image *image;
    pi_status status = pi_attach(arguments[1], &image, message, sizeof message);
    if (status == PI_OK) {
        status = run(image, mode, argument);
        pi_detach(image);
    }
    if (status == PI_OK) return 0;
    fprintf(stderr, "sample_reader: %s: %s\n", pi_status_text(status), *message ? message : argument ? argument : mode);
    return status == PI_NOT_FOUND ? 3 : 1;
}
