/* image_coherence.c SEGMENT SECONDS [MARK] - take snapshots as fast as it goes, and check each one.
 *
 * The writer publishes each block whole with one number as value and raw bits of every record, rising from publish to
 * publish; sequences within a block rise together. Also follows the journal: sequences of a point must rise.
 * Prints a JSON object of counts; exit 1 when something was wrong.
 * With MARK (a file) it goes on until that file is gone, and waits for publishes in between.
 */
#define PROCESS_IMAGE_IMPLEMENTATION
#include "process_image.h"

typedef struct {
    uint64_t snapshots, torn, backwards, changes, lost, disorder, epoch, stuck;
    double highest;     /* number seen in a record that is not Bad */
    double *last;       /* for each block, the highest number seen while not Bad */
    uint32_t *sequence; /* for each point, of its last journal entry; 0 = none yet */
} account;

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void begin_epoch(account *a, const pi_image *image) {
    if (a->epoch == pi_epoch(image)) return;
    a->epoch = pi_epoch(image);
    free(a->last);
    free(a->sequence);
    a->last = calloc(pi_blocks(image, NULL), sizeof *a->last);
    a->sequence = calloc(pi_points(image, NULL), sizeof *a->sequence);
}

static void check(account *a, const pi_image *image, const pi_snapshot *s) {
    const pi_block *blocks;
    uint32_t count = pi_blocks(image, &blocks);
    a->snapshots++;
    for (uint32_t b = 0; b < count; b++) {
        const pi_record *first = &s->records[blocks[b].start];
        int torn = 0;
        for (uint32_t i = 0; i < blocks[b].count; i++) {
            const pi_record *r = first + i;
            torn |= r->value != first->value || r->quality != first->quality || (double)r->raw != r->value;
        }
        a->torn += (uint64_t)torn;
        if (first->quality >> 31) continue;
        if (first->value < a->last[b]) a->backwards++;
        a->last[b] = first->value;
        if (first->value > a->highest) a->highest = first->value;
    }
}

static void check_changes(account *a, pi_image *image, pi_cursor *cursor, pi_changes *batch) {
    while (pi_read_changes(image, cursor, batch) == PI_OK) {
        a->lost += batch->lost;
        if (batch->epoch != a->epoch) continue; /* the rest of the journal of an object that was replaced */
        for (size_t i = 0; i < batch->count; i++) {
            uint32_t row = batch->rows[i], sequence = batch->records[i].sequence;
            uint32_t step = sequence - a->sequence[row];
            a->disorder += a->sequence[row] && (step == 0 || step > 1u << 30);
            a->sequence[row] = sequence;
            a->changes++;
        }
    }
}

int main(int count, char **arguments) {
    pi_image *image;
    pi_snapshot snapshot = {0};
    pi_changes batch = {0};
    pi_cursor cursor = {0, 0};
    account a = {0};
    if (count < 3 || pi_attach(arguments[1], &image, NULL, 0) != PI_OK) return 2;
    double until = seconds_now() + strtod(arguments[2], NULL);
    const char *mark = count > 3 ? arguments[3] : NULL;
    if (mark) {
        char ready[4096];
        snprintf(ready, sizeof ready, "%s.c", mark);
        close(open(ready, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    }
    double last = seconds_now(), longest = 0;
    while (seconds_now() < until && (!mark || access(mark, F_OK) == 0)) {
        if (mark) pi_wait(image, 20000000);
        if (pi_take(image, &snapshot) != PI_OK) {
            a.stuck++;
            continue;
        }
        begin_epoch(&a, image);
        check(&a, image, &snapshot);
        check_changes(&a, image, &cursor, &batch);
        double now = seconds_now();
        if (now - last > longest) longest = now - last;
        last = now;
    }
    if (pi_take(image, &snapshot) == PI_OK) {
        begin_epoch(&a, image);
        check(&a, image, &snapshot);
    }
    printf("{\"snapshots\": %" PRIu64 ", \"torn\": %" PRIu64 ", \"backwards\": %" PRIu64 ", \"epochs\": %" PRIu64
           ", \"changes\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"disorder\": %" PRIu64 ", \"stuck\": %" PRIu64
           ", \"highest\": %.17g, \"longest_turn\": %.3f}\n", a.snapshots, a.torn, a.backwards, pi_attachments(image),
           a.changes, a.lost, a.disorder, a.stuck, a.highest, longest);
    pi_detach(image);
    pi_snapshot_free(&snapshot);
    pi_changes_free(&batch);
    free(a.last);
    free(a.sequence);
    return a.torn || a.backwards || a.disorder;
}
