/* image_driver.c - process_image.h under the hand of a test: one command a line on stdin, one answer a line.
 *
 *     attach NAME | detach | take | rows | wait SECONDS | changes | all | cursor EPOCH:POSITION | lock SECONDS | unlock
 *
 * Every answer begins with the status's number. `rows` prints "quality sequence raw value" for each point of the last
 * take; `changes` one batch; `all` attaches, does everything once, detaches (for damaged objects).
 */
#define PROCESS_IMAGE_IMPLEMENTATION
#include "process_image.h"

static pi_image *image;
static pi_snapshot snapshot;
static pi_changes batch;
static pi_cursor cursor;
static char message[300];

static int64_t seconds(const char *text) {
    return (int64_t)(strtod(text, NULL) * 1e9);
}

static void rows(void) {
    for (uint32_t row = 0; row < snapshot.points; row++) {
        const pi_record *r = &snapshot.records[row];
        printf(" %08" PRIx32 ":%" PRIu32 ":%" PRIu64 ":%.17g", r->quality, r->sequence, r->raw, r->value);
    }
}

static void changed(void) {
    printf(" %zu lost %" PRIu64 " texts_lost %" PRIu64 " new_epoch %d cursor %" PRIx64 ":%" PRIu64, batch.count, batch.lost,
           batch.texts_lost, batch.new_epoch, cursor.epoch, cursor.position);
    for (size_t i = 0; i < batch.count; i++) printf(" %" PRIu32 ":%" PRIu32, batch.rows[i], batch.records[i].sequence);
}

/* Touch every byte that the calls hand out, so that a sanitizer sees a wrong one. */
static pi_status everything(const char *name) {
    pi_status status = pi_attach(name, &image, message, sizeof message), first = status;
    uint64_t sum = 0;
    const pi_point *points;
    char text[64];
    pi_value value;
    if (status != PI_OK) return status;
    uint32_t count = pi_points(image, &points);
    for (uint32_t row = 0; row < count; row++) {
        sum += (uint64_t)pi_find(image, points[row].name) + strlen(points[row].name);
        sum += pi_property(image, row, "device", text, sizeof text) + pi_property(image, row, "range", text, sizeof text);
    }
    status = pi_take(image, &snapshot);
    for (uint32_t row = 0; status == PI_OK && row < count; row++) {
        if (pi_value_at(image, &snapshot, row, &value) != PI_OK) abort();
        for (uint32_t i = 0; i < value.length; i++) sum += (unsigned char)value.text[i];
    }
    cursor = (pi_cursor){0, 0};
    for (int i = 0; i < 100 && pi_read_changes(image, &cursor, &batch) == PI_OK; i++)
        for (size_t entry = 0; entry < batch.count; entry++) {
            if (pi_change_value(&batch, entry, &value) != PI_OK) abort();
            for (uint32_t k = 0; k < value.length; k++) sum += (unsigned char)value.text[k];
        }
    pi_wait(image, 0);
    pi_detach(image);
    image = NULL;
    snprintf(message, sizeof message, "%" PRIu64, sum);
    return first;
}

static pi_status attach(const char *name) {
    pi_detach(image);
    cursor = (pi_cursor){0, 0};
    return pi_attach(name, &image, message, sizeof message);
}

static pi_status run(const char *command, const char *argument) {
    if (!strcmp(command, "attach")) return attach(argument);
    if (!strcmp(command, "all")) return everything(argument);
    if (!image) return PI_ARGUMENT;
    if (!strcmp(command, "take") || !strcmp(command, "rows")) return pi_take(image, &snapshot);
    if (!strcmp(command, "wait")) return pi_wait(image, seconds(argument));
    if (!strcmp(command, "changes")) return pi_read_changes(image, &cursor, &batch);
    if (!strcmp(command, "lock")) return pi_lock(image, seconds(argument));
    if (!strcmp(command, "unlock")) return pi_unlock(image);
    if (!strcmp(command, "cursor") && sscanf(argument, "%" SCNx64 ":%" SCNu64, &cursor.epoch, &cursor.position) == 2)
        return PI_OK;
    return PI_ARGUMENT;
}

int main(void) {
    char line[400];
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    while (fgets(line, sizeof line, stdin)) {
        char *command = strtok(line, " \n"), *argument = strtok(NULL, "\n");
        if (!command) continue;
        *message = 0;
        pi_status status = run(command, argument ? argument : "");
        printf("%d %s", (int)status, message);
        if (status == PI_OK && !strcmp(command, "rows")) rows();
        if (status == PI_OK && !strcmp(command, "take"))
            printf(" epoch %" PRIx64 " generation %" PRIu64 " stale %d attachments %" PRIu64, snapshot.epoch,
                   snapshot.generation, snapshot.stale, pi_attachments(image));
        if (status == PI_OK && !strcmp(command, "changes")) changed();
        putchar('\n');
        fflush(stdout);
    }
    pi_detach(image);
    pi_snapshot_free(&snapshot);
    pi_changes_free(&batch);
    return 0;
}
