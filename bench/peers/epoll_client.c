/* The counterpart of Modbus TCP benchmarks: bare requests as fast as one thread of C makes them.
 *
 * epoll_client PORT DEVICES COUNT IN_FLIGHT SECONDS: one connection to each of 127.0.0.1, 127.0.0.2, ... (250 to a
 * third octet), reads COUNT holding registers with IN_FLIGHT requests under way on each; checks transaction id, unit,
 * function and byte count of each answer, and adds its registers up. Prints "answers N seconds S cpu C sum X".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, BUFFER = 65536 };

static struct device {
    int fd;
    uint16_t next, oldest;
    size_t have;
    uint8_t data[260 * 65];
} *devices;

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void ask(struct device *d, int requests, int count)
{
    uint8_t out[12 * 64];
    for (int i = 0; i < requests; i++, d->next++) {
        uint8_t frame[12] = {(uint8_t)(d->next >> 8), (uint8_t)d->next, 0, 0, 0, 6, 1, 3, 0, 0, 0, (uint8_t)count};
        memcpy(out + 12 * i, frame, 12);
    }
    if (send(d->fd, out, 12 * (size_t)requests, MSG_NOSIGNAL) != 12 * requests) {
        perror("send");
        exit(1);
    }
}

static int take(struct device *d, int count, uint64_t *sum)
{
    size_t size = 9 + 2 * (size_t)count, used = 0;
    int answers = 0;
    ssize_t got = recv(d->fd, d->data + d->have, sizeof d->data - d->have, 0);

    if (got <= 0) {
        perror("recv");
        exit(1);
    }
    d->have += (size_t)got;
    for (; d->have - used >= size; used += size, answers++) {
        const uint8_t *frame = d->data + used;
        if ((frame[0] << 8 | frame[1]) != d->oldest++ || frame[6] != 1 || frame[7] != 3 || frame[8] != 2 * count) {
            fprintf(stderr, "an answer that does not match\n");
            exit(1);
        }
        for (int i = 0; i < count; i++)
            *sum += (uint64_t)(frame[9 + 2 * i] << 8 | frame[10 + 2 * i]);
    }
    memmove(d->data, d->data + used, d->have - used);
    d->have -= used;
    return answers;
}

int main(int argc, char **argv)
{
    int port, total, count, in_flight, poll = epoll_create1(0), one = 1;
    double seconds, begin, cpu;
    uint64_t answers = 0, sum = 0;
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    struct rlimit files;

    if (argc != 6) {
        fprintf(stderr, "epoll_client PORT DEVICES COUNT IN_FLIGHT SECONDS\n");
        return 2;
    }
    port = atoi(argv[1]), total = atoi(argv[2]), count = atoi(argv[3]), in_flight = atoi(argv[4]);
    seconds = atof(argv[5]);
    if (in_flight < 1 || in_flight > 64 || count < 1 || count > 125)
        return 2;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    devices = calloc((size_t)total, sizeof *devices);
    for (int i = 0; i < total; i++) {
        struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        where.sin_addr.s_addr = htonl(0x7f000000u | (uint32_t)(i / 250) << 8 | (uint32_t)(i % 250 + 1));
        devices[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(devices[i].fd, (struct sockaddr *)&where, sizeof where)) {
            perror("connect");
            return 1;
        }
        setsockopt(devices[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        event.data.u32 = (uint32_t)i;
        epoll_ctl(poll, EPOLL_CTL_ADD, devices[i].fd, &event);
    }
    begin = now(CLOCK_MONOTONIC);
    cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < total; i++)
        ask(&devices[i], in_flight, count);
    while (now(CLOCK_MONOTONIC) - begin < seconds) {
        int ready = epoll_wait(poll, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            struct device *d = &devices[events[i].data.u32];
            int taken = take(d, count, &sum);
            answers += (uint64_t)taken;
            if (taken)
                ask(d, taken, count);
        }
    }
    printf("answers %llu seconds %.6f cpu %.6f sum %llu\n", (unsigned long long)answers,
           now(CLOCK_MONOTONIC) - begin, now(CLOCK_PROCESS_CPUTIME_ID) - cpu, (unsigned long long)sum);
    return 0;
}
