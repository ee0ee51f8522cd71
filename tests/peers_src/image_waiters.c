/* image_waiters.c SEGMENT THREADS - a hostile process: that many threads wait on the segment's futex word, always.
 *
 * Prints "waiting" once all of them have begun, then, when its input ends, how often a thread was woken. Link with
 * -pthread.
 */
#define PROCESS_IMAGE_IMPLEMENTATION
#include "process_image.h"
#include <pthread.h>

static pi_image *image;
static atomic_uint begun;
static atomic_ullong woken;

static void *wait_always(void *unused) {
    const _Atomic uint32_t *word = (const _Atomic uint32_t *)(const void *)(image->now.map + PI_WORD_FUTEX);
    atomic_fetch_add(&begun, 1);
    for (;;) {
        uint32_t value = atomic_load(word);
        if (syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0) == 0) atomic_fetch_add(&woken, 1);
    }
    return unused;
}

int main(int count, char **arguments) {
    if (count != 3 || pi_attach(arguments[1], &image, NULL, 0) != PI_OK) return 2;
    unsigned threads = (unsigned)strtoul(arguments[2], NULL, 10);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (unsigned i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, wait_always, NULL) != 0) return 3;
    }
    while (atomic_load(&begun) < threads) usleep(1000);
    printf("waiting\n");
    fflush(stdout);
    while (getchar() != EOF) {}
    printf("%llu\n", atomic_load(&woken));
    fflush(stdout);
    _exit(0);
}
