/* A load target for Modbus TCP benchmarks: answers reads at little cost, so that the client is what is measured.
 *
 * epoll_server PORT [MOVING [STAMP]]: listens on every IPv4 loopback address (each address is a device of its own), says
 * "listening on PORT" (0 = any free port), serves until killed. Registers a of any table hold a, but the first MOVING
 * registers of each answer hold a number that grows with each answer of that connection; with STAMP 1 the first four
 * hold the time of the answer (CLOCK_MONOTONIC, ns, 64 bits, most significant first). On SIGUSR1 it prints
 * "answers N bytes B", counted since the start: the payload bytes that were put on the wire.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, MAX_FD = 65536, BUFFER = 4096, QUERY = 12 };

static struct connection {
    uint32_t answers;
    int kept;
    uint8_t partial[QUERY];
} connections[MAX_FD];
static uint64_t answers, payload;
static volatile sig_atomic_t asked;
static int stamp;

static void ask(int signal_number)
{
    (void)signal_number;
    asked = 1;
}

/* The answer to one query of 12 bytes; its length. */
static size_t answer(const uint8_t *query, uint8_t *out, struct connection *c, int moving)
{
    unsigned function = query[7], address = query[8] << 8 | query[9], count = query[10] << 8 | query[11];
    size_t bytes = function <= 2 ? (count + 7) / 8 : 2 * count;

    if (function < 1 || function > 4 || !count || bytes > 250) {
        memcpy(out, query, 8);
        out[4] = 0, out[5] = 3, out[7] |= 0x80, out[8] = function < 1 || function > 4 ? 1 : 3;
        return 9;
    }
    memcpy(out, query, 8);
    out[4] = 0, out[5] = (uint8_t)(3 + bytes), out[8] = (uint8_t)bytes;
    c->answers++;
    for (size_t i = 0; i < bytes / 2; i++) {
        uint16_t value = htons((uint16_t)((int)i < moving ? c->answers : address + i));
        memcpy(out + 9 + 2 * i, &value, 2);
    }
    if (stamp && bytes >= 8) {
        struct timespec t;
        uint64_t now;
        clock_gettime(CLOCK_MONOTONIC, &t);
        now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
        for (int i = 0; i < 8; i++)
            out[9 + i] = (uint8_t)(now >> (56 - 8 * i));
    }
    if (bytes % 2)
        out[9 + bytes - 1] = 0x55;
    answers++;
    payload += bytes;
    return 9 + bytes;
}

static int serve(int fd, int moving)
{
    static uint8_t in[BUFFER + QUERY], out[(BUFFER / QUERY + 2) * 260];
    struct connection *c = &connections[fd];
    size_t have = (size_t)c->kept, used = 0, made = 0;
    ssize_t got;

    memcpy(in, c->partial, have);
    got = recv(fd, in + have, BUFFER, 0);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    have += (size_t)got;
    while (have - used >= QUERY) {
        made += answer(in + used, out + made, c, moving);
        used += QUERY;
    }
    c->kept = (int)(have - used);
    memcpy(c->partial, in + used, have - used);
    return made && send(fd, out, made, MSG_NOSIGNAL) != (ssize_t)made ? -1 : 0;
}

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 0, moving = argc > 2 ? atoi(argv[2]) : 0, one = 1, poll;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct rlimit files = {MAX_FD, MAX_FD};
    struct sigaction on_ask = {.sa_handler = ask};
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    socklen_t size = sizeof where;

    stamp = argc > 3 && atoi(argv[3]);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < MAX_FD ? files.rlim_max : MAX_FD;
    setrlimit(RLIMIT_NOFILE, &files);
    sigaction(SIGUSR1, &on_ask, NULL);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* Any local address, but nobody outside can reach it: answers to others are never sent (see the accept). */
    where.sin_addr.s_addr = htonl(INADDR_ANY);
    if (bind(listener, (struct sockaddr *)&where, sizeof where) || listen(listener, 4096)
        || getsockname(listener, (struct sockaddr *)&where, &size)) {
        perror("listen");
        return 1;
    }
    poll = epoll_create1(0);
    event.data.fd = listener;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    printf("listening on %d\n", ntohs(where.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        if (asked) {
            asked = 0;
            printf("answers %llu bytes %llu\n", (unsigned long long)answers, (unsigned long long)payload);
            fflush(stdout);
        }
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                if (serve(fd, moving))
                    close(fd);
                continue;
            }
            for (;;) {
                struct sockaddr_in peer;
                socklen_t length = sizeof peer;
                int client = accept4(listener, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK);
                if (client < 0)
                    break;
                if (ntohl(peer.sin_addr.s_addr) >> 24 != 127 || client >= MAX_FD) {
                    close(client);
                    continue;
                }
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                memset(&connections[client], 0, sizeof connections[client]);
                event.events = EPOLLIN;
                event.data.fd = client;
                epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
            }
        }
    }
}
