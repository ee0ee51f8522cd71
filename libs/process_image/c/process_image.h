/* process_image.h - read the process image of a CPC partition from C11, with libc alone.
 *
 * One file: include it wherever it is used, and in exactly one place as
 *
 *     #define PROCESS_IMAGE_IMPLEMENTATION
 *     #include "process_image.h"
 *
 * before every other header there (or compile with -D_GNU_SOURCE). glibc before 2.34 also needs -pthread -lrt.
 * The layout is specified in docs/process-image.md; this is its layout version 1. sample_reader.c shows the use.
 *
 * A reader maps the segment read-only and takes no lock. Whatever lies in the object, nothing here reads outside of
 * it, allocates more than its size asks for, or waits without an end that the caller set. One thread at a time for
 * each pi_image; any number of images.
 */
#ifndef PROCESS_IMAGE_H
#define PROCESS_IMAGE_H

#if defined(PROCESS_IMAGE_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1 /* syscall, sem_clockwait */
#endif

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PI_LAYOUT_VERSION 1u

typedef enum {
    PI_OK = 0,
    PI_TIMEOUT,       /* nothing new, or the semaphore was not free, in the time given */
    PI_NOT_FOUND,     /* no segment, point or property of this name */
    PI_NOT_PERMITTED, /* this user may not open it: join the segment's group */
    PI_FOREIGN,       /* the object of this name is no process image */
    PI_LAYOUT,        /* another layout version or byte order, or a damaged object */
    PI_NOT_READY,     /* its writer is starting or leaving: try again in a moment */
    PI_NO_MEMORY,
    PI_ARGUMENT,      /* a name, row, cursor or buffer that can't be */
    PI_SYSTEM         /* a call of the system failed; errno says why */
} pi_status;

/* One point as it is published: 40 bytes, and the same in the segment. */
typedef struct {
    int64_t source_time;   /* ns since the Unix epoch, UTC; 0 = none */
    int64_t received_time; /* likewise: when the answer that carried the value came */
    double value;          /* engineering value */
    uint64_t raw;          /* the bits before scaling; signed integers sign-extended, others zero-extended */
    uint32_t quality;      /* OPC UA StatusCode: 0 Good, upper bit Bad, 0x4....... Uncertain */
    uint32_t sequence;     /* counts changes of value or quality */
} pi_record;

enum { /* pi_point.type */
    PI_TYPE_BOOL = 1, PI_TYPE_INT8, PI_TYPE_UINT8, PI_TYPE_INT16, PI_TYPE_UINT16, PI_TYPE_INT32, PI_TYPE_UINT32,
    PI_TYPE_INT64, PI_TYPE_UINT64, PI_TYPE_FLOAT32, PI_TYPE_FLOAT64, PI_TYPE_STRING, PI_TYPE_BYTES
};
enum { PI_FLAG_WRITABLE = 1, PI_FLAG_SYSTEM = 2 }; /* pi_point.flags */

#define PI_UNCERTAIN_LAST_USABLE_VALUE 0x40900000u /* what a Good record reads as once it is stale */
#define PI_BAD_WAITING_FOR_INITIAL_DATA 0x80320000u

typedef struct {
    const char *name;     /* full name "device/name", UTF-8, ends with a zero byte */
    uint32_t name_length; /* bytes without it */
    uint32_t block;       /* number of its block */
    uint16_t type;        /* PI_TYPE_... */
    uint16_t flags;       /* PI_FLAG_... */
    uint32_t device;      /* number of its device, see pi_device */
    uint32_t text_size;   /* most bytes of its text; 0 for numbers */
    uint64_t text_offset; /* place of its text slot among the texts */
} pi_point;

typedef struct { /* the points of one device in one scan class, published together */
    uint32_t start, count; /* its records */
    uint64_t text_offset, text_length;
    double scan_class; /* seconds */
} pi_block;

typedef struct pi_image pi_image;

typedef enum { PI_NO_VALUE, PI_BOOLEAN, PI_SIGNED, PI_UNSIGNED, PI_REAL, PI_TEXT, PI_BYTES } pi_kind;

typedef struct { /* a value by its point's type */
    pi_kind kind;       /* PI_NO_VALUE: nothing was ever read (or a text of the journal is overwritten) */
    int boolean;        /* PI_BOOLEAN */
    int64_t integer;    /* PI_SIGNED */
    uint64_t natural;   /* PI_UNSIGNED */
    double real;        /* PI_REAL */
    const char *text;   /* PI_TEXT (UTF-8), PI_BYTES; not ended by a zero byte; lives as long as its snapshot or batch */
    uint32_t length;    /* its bytes */
    int cut;            /* the whole text was longer */
} pi_value;

/* A coherent copy of every block. Begin with all zero bytes; use again and again; end with pi_snapshot_free. */
typedef struct {
    uint32_t points, blocks;
    pi_record *records;    /* in image order; Good records of stale blocks read PI_UNCERTAIN_LAST_USABLE_VALUE */
    unsigned char *texts;
    uint64_t *generations; /* for each block, how often it was published in this epoch */
    int64_t *published;    /* for each block, ns on the monotonic clock */
    unsigned char *overdue; /* for each block, 1 where it is stale */
    uint64_t epoch;
    uint64_t generation;   /* publishes in this epoch when copying began */
    int64_t taken;         /* ns on the monotonic clock */
    int stale;             /* the writer is gone, stopped or not ready: all of this is of the past */
    size_t room[5];
} pi_snapshot;

/* A place in the journal. {0, 0} is the oldest entry that is still there. It may be kept, and resumed in its epoch. */
typedef struct {
    uint64_t epoch, position;
} pi_cursor;

/* Some changes in the order of their publishing. Begin with all zero bytes; end with pi_changes_free. */
typedef struct {
    size_t count;
    uint32_t *rows;         /* row of the point that changed, in `points` */
    pi_record *records;     /* its record as it was published */
    int64_t *published;     /* ns on the monotonic clock */
    uint64_t lost;          /* entries that were overwritten before this batch: take a snapshot */
    uint64_t texts_lost;    /* texts in this batch that were overwritten */
    int new_epoch;          /* the cursor was of another epoch: rows and points may be others, take a snapshot */
    uint64_t epoch;
    const pi_point *points; /* good until the next call with the same image */
    uint32_t point_count;
    uint32_t *text_place, *text_length;
    unsigned char *text_state; /* 0 no text, 1 whole, 2 cut, 3 overwritten */
    unsigned char *text;
    size_t room[7];
} pi_changes;

/* Attach read-only. `message` (may be NULL) gets a sentence that says what is wrong and what to do. */
pi_status pi_attach(const char *segment, pi_image **image, char *message, size_t message_size);
void pi_detach(pi_image *image);
const char *pi_status_text(pi_status status);

/* Points and blocks of the object attached now; good until the next pi_wait, pi_take or pi_read_changes. When a
 * writer came back with another layout, `pi_attachments` has grown by one and these are the new ones. */
uint32_t pi_points(const pi_image *image, const pi_point **points);
uint32_t pi_blocks(const pi_image *image, const pi_block **blocks);
uint64_t pi_epoch(const pi_image *image);
uint64_t pi_generation(const pi_image *image);
uint64_t pi_attachments(const pi_image *image);
int pi_stale(const pi_image *image);
/* Row of a point by its full name, -1 where there is none. */
int64_t pi_find(const pi_image *image, const char *full_name);
/* A property of a point in the schema: "name", "device", "unit", "description" as text; anything else ("range",
 * "extra", "scan_class") as the JSON that stands there. PI_NOT_FOUND: left out, so at its default. */
pi_status pi_property(const pi_image *image, uint32_t row, const char *key, char *out, size_t size);
/* The schema as JSON, not ended by a zero byte. */
const char *pi_schema(const pi_image *image, size_t *length);

/* Sleep until something is published that the last pi_wait or pi_take did not see; negative = without end. */
pi_status pi_wait(pi_image *image, int64_t timeout_ns);
pi_status pi_take(pi_image *image, pi_snapshot *snapshot);
void pi_snapshot_free(pi_snapshot *snapshot);
pi_status pi_value_at(const pi_image *image, const pi_snapshot *snapshot, uint32_t row, pi_value *value);

/* The next changes after `cursor`, which moves on. PI_TIMEOUT: none now. After another layout came, the old journal
 * is finished first. */
pi_status pi_read_changes(pi_image *image, pi_cursor *cursor, pi_changes *batch);
void pi_changes_free(pi_changes *batch);
pi_status pi_change_value(const pi_changes *batch, size_t entry, pi_value *value);
/* The end of the journal now: take it, then a snapshot, and miss nothing. */
pi_cursor pi_end(pi_image *image);

/* The public semaphore, for readers that want to lock: pi_lock, pi_take, pi_unlock. Hold it for as short as the copy
 * takes; the writer does not wait for you, and pi_take checks every block all the same. */
pi_status pi_lock(pi_image *image, int64_t timeout_ns);
pi_status pi_unlock(pi_image *image);

#ifdef __cplusplus
}
#endif
#endif /* PROCESS_IMAGE_H */

#if defined(PROCESS_IMAGE_IMPLEMENTATION) && !defined(PROCESS_IMAGE_IMPLEMENTED)
#define PROCESS_IMAGE_IMPLEMENTED

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>

/* ---- the layout ---------------------------------------------------------------------------------------------- */

#define PI_HEADER_SIZE 4096u
#define PI_BYTE_ORDER_MARK 0x01020304u
#define PI_SLOTS 4u
#define PI_ALIGN 64u
#define PI_PAGE 4096u
#define PI_CHECKSUM_OFFSET 240u
#define PI_TEXT_HEAD 8u
#define PI_CUT_FLAG 0x80000000u
#define PI_MAX_TEXT (1u << 20)
#define PI_SEMAPHORE_NAME_OFFSET 640u
#define PI_SEMAPHORE_NAME_SIZE 256u
enum { PI_STATE_STARTING = 1, PI_STATE_READY = 2, PI_STATE_RETIRED = 3 };
enum { /* byte offsets of the live words */
    PI_WORD_STATE = 256, PI_WORD_HEARTBEAT = 320, PI_WORD_GENERATION = 328, PI_WORD_JOURNAL_RESERVED = 384,
    PI_WORD_JOURNAL_COMMITTED = 392, PI_WORD_LONG_RESERVED = 400, PI_WORD_FUTEX = 512
};

typedef struct { /* the constants at the beginning of the object; naturally aligned, no padding */
    char magic[8];
    uint32_t version, byte_order, header_size, record_size;
    uint64_t total_size, epoch, layout_hash, schema_hash, schema_offset, schema_length;
    uint32_t points, blocks, slots, tables_hash;
    uint64_t block_table_offset, point_table_offset, names_offset, names_length;
    uint64_t generation_offset, next_due_offset, sequence_offset, published_offset;
    uint64_t slots_offset, slot_size, text_offset, text_length;
    uint64_t journal_offset, journal_entries, long_offset, long_length;
    uint64_t stale_after, grace, created;
} pi_header;
_Static_assert(sizeof(void *) == 8, "live words are 64 bits wide and must be read by one load");
_Static_assert(sizeof(pi_header) == PI_CHECKSUM_OFFSET, "the header's constants");
_Static_assert(sizeof(pi_record) == 40, "a record");

typedef struct {
    uint32_t name_offset, name_length, block;
    uint16_t type, flags;
    uint64_t text_offset;
    uint32_t text_size, device;
} pi_point_entry;
_Static_assert(sizeof(pi_point_entry) == 32 && sizeof(pi_block) == 32, "the tables' entries");

typedef struct { /* one attached object */
    const unsigned char *map;
    pi_header h;
    dev_t device;
    ino_t inode;
    uint64_t pitch; /* words from one slot's sequences to the next one's */
    uint64_t journal_published, journal_long, journal_row, journal_length; /* offsets of the journal's arrays */
    pi_point *points;
    pi_block *blocks;
    char *names, *schema;
    uint32_t *entries; /* for each point, where its entry begins in the schema */
    uint32_t *devices, device_count; /* likewise for the devices' names */
    uint32_t *table, table_mask; /* hash table of rows + 1 by full name */
} pi_object;

struct pi_image {
    char *name;
    pi_object now, before;
    int has_before, uses_journal;
    uint64_t seen, attachments;
    int64_t look_after;
    sem_t *semaphore;
    char semaphore_name[PI_SEMAPHORE_NAME_SIZE + 2];
    int locked;
};

static int64_t pi__clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A live word: aligned, written whole by one store. Acquire: what is read after it is not older than it. */
static uint64_t pi__word(const pi_object *o, uint64_t offset) {
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)(o->map + offset), memory_order_acquire);
}

static uint64_t pi__align(uint64_t value, uint64_t step) {
    return (value + step - 1) / step * step;
}

static uint32_t pi__crc(uint32_t crc, const unsigned char *data, uint64_t length) { /* CRC-32 as in zlib */
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
    crc = ~crc;
    for (uint64_t i = 0; i < length; i++) crc = table[(crc ^ data[i]) & 0xFF] ^ (crc >> 8);
    return ~crc;
}

#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static pi_status pi__fail(pi_status status, char *message, size_t size, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (message && size) vsnprintf(message, size, format, arguments);
    va_end(arguments);
    return status;
}

const char *pi_status_text(pi_status status) {
    static const char *const texts[] = {"ok", "timeout", "not found", "not permitted", "no process image",
                                        "layout mismatch", "not ready", "no memory", "bad argument", "system error"};
    return (unsigned)status < sizeof texts / sizeof *texts ? texts[status] : "unknown";
}

/* ---- the schema: a strict reader of JSON that allocates nothing and nests no deeper than PI_DEPTH -------------- */

#define PI_DEPTH 16

typedef struct {
    const char *at, *end;
} pi__json;

static void pi__space(pi__json *j) {
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r')) j->at++;
}

static int pi__take(pi__json *j, char wanted) { /* 1 and past it when the next character is this one */
    pi__space(j);
    if (j->at >= j->end || *j->at != wanted) return 0;
    j->at++;
    return 1;
}

static int pi__hex(const char *at, const char *end, uint32_t *out) {
    uint32_t value = 0;
    if (end - at < 4) return 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)(c - '0') : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                       : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10 : 16;
        if (digit > 15) return 0;
        value = value << 4 | digit;
    }
    *out = value;
    return 1;
}

/* Put one code point as UTF-8; half a surrogate pair keeps its own three bytes, as in the names table. */
static size_t pi__utf8(uint32_t code, char *out, size_t room) {
    char bytes[4];
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; code >>= 6) bytes[i] = (char)(0x80 | (code & 0x3F));
    bytes[0] = (char)(lead[n] | code);
    for (size_t i = 0; i < n && i < room; i++) out[i] = bytes[i];
    return n;
}

/* A string; its decoded bytes go to `out` as far as there is room. Returns their whole number, -1 for no string. */
static int64_t pi__string(pi__json *j, char *out, size_t room) {
    int64_t length = 0;
    if (!pi__take(j, '"')) return -1;
    while (j->at < j->end) {
        char c = *j->at++;
        size_t left = (uint64_t)length < room ? room - (size_t)length : 0;
        char *here = left ? out + length : NULL;
        if (c == '"') return length;
        if ((unsigned char)c < 0x20) return -1;
        if (c != '\\') {
            if (left) *here = c;
            length++;
            continue;
        }
        if (j->at >= j->end) return -1;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *found = strchr(from, c = *j->at++);
        uint32_t code, low;
        if (c && found) {
            code = (unsigned char)to[found - from];
        } else {
            if (c != 'u' || !pi__hex(j->at, j->end, &code)) return -1;
            j->at += 4;
            if (code >> 10 == 0x36 && j->end - j->at >= 6 && j->at[0] == '\\' && j->at[1] == 'u'
                && pi__hex(j->at + 2, j->end, &low) && low >> 10 == 0x37) {
                code = 0x10000 + ((code & 0x3FF) << 10 | (low & 0x3FF));
                j->at += 6;
            }
        }
        length += (int64_t)pi__utf8(code, here, left);
    }
    return -1;
}

static int pi__digits(pi__json *j) {
    const char *start = j->at;
    while (j->at < j->end && *j->at >= '0' && *j->at <= '9') j->at++;
    return j->at > start;
}

static int pi__number(pi__json *j) {
    if (j->at < j->end && *j->at == '-') j->at++;
    const char *start = j->at;
    if (!pi__digits(j) || (*start == '0' && j->at > start + 1)) return 0;
    if (j->at < j->end && *j->at == '.') {
        j->at++;
        if (!pi__digits(j)) return 0;
    }
    if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
        j->at++;
        if (j->at < j->end && (*j->at == '+' || *j->at == '-')) j->at++;
        return pi__digits(j);
    }
    return 1;
}

static int pi__word_is(pi__json *j, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(j->end - j->at) < length || memcmp(j->at, word, length) != 0) return 0;
    j->at += length;
    return 1;
}

static int pi__skip(pi__json *j, int depth) { /* past one value; 0 where there is none */
    pi__space(j);
    if (depth <= 0 || j->at >= j->end) return 0;
    char open = *j->at;
    if (open == '"') return pi__string(j, NULL, 0) >= 0;
    if (open != '{' && open != '[')
        return pi__word_is(j, "true") || pi__word_is(j, "false") || pi__word_is(j, "null") || pi__number(j);
    char close = open == '{' ? '}' : ']';
    j->at++;
    if (pi__take(j, close)) return 1;
    do {
        if (open == '{' && (pi__string(j, NULL, 0) < 0 || !pi__take(j, ':'))) return 0;
        if (!pi__skip(j, depth - 1)) return 0;
    } while (pi__take(j, ','));
    return pi__take(j, close);
}

/* The value of a key in the object at j: j stands at the value, 1; 0 where the object or the key is not there. */
static int pi__member(pi__json *j, const char *key) {
    char name[32];
    if (!pi__take(j, '{')) return 0;
    if (pi__take(j, '}')) return 0;
    do {
        int64_t length = pi__string(j, name, sizeof name);
        if (length < 0 || !pi__take(j, ':')) return 0;
        if ((size_t)length == strlen(key) && (size_t)length <= sizeof name && !memcmp(name, key, (size_t)length)) {
            pi__space(j);
            return 1;
        }
        if (!pi__skip(j, PI_DEPTH)) return 0;
    } while (pi__take(j, ','));
    return 0;
}

/* Where each element of an array begins; *starts is allocated for `most` of them. Number of elements, -1 = no array
 * that begins every element with `first`, or more than `most`. */
static int64_t pi__elements(pi__json *j, const char *base, char first, uint32_t most, uint32_t **starts) {
    int64_t count = 0;
    if (!pi__take(j, '[')) return -1;
    if (!(*starts = calloc(most ? most : 1, sizeof **starts))) return -1;
    if (pi__take(j, ']')) return 0;
    do {
        pi__space(j);
        if (count >= most || j->at >= j->end || *j->at != first) return -1;
        (*starts)[count++] = (uint32_t)(j->at - base);
        if (!pi__skip(j, PI_DEPTH)) return -1;
    } while (pi__take(j, ','));
    return pi__take(j, ']') ? count : -1;
}

/* Look through the schema once: it must be JSON, with as many points as the header says. */
static int pi__index_schema(pi_object *o) {
    char format[20];
    pi__json all = {o->schema, o->schema + o->h.schema_length}, j = all;
    if (o->h.schema_length > UINT32_MAX || !pi__skip(&j, PI_DEPTH)) return 0;
    pi__space(&j);
    if (j.at != j.end) return 0;
    j = all;
    if (!pi__member(&j, "format") || pi__string(&j, format, sizeof format) != 17
        || memcmp(format, "cpc process image", 17) != 0) return 0;
    j = all;
    if (!pi__member(&j, "points")
        || pi__elements(&j, o->schema, '{', o->h.points, &o->entries) != (int64_t)o->h.points) return 0;
    j = all;
    int64_t devices = pi__member(&j, "devices") ? pi__elements(&j, o->schema, '"', o->h.points, &o->devices) : -1;
    o->device_count = devices > 0 ? (uint32_t)devices : 0;
    return devices > 0;
}

/* ---- attaching ------------------------------------------------------------------------------------------------- */

static void pi__release(pi_object *o) {
    if (o->map) munmap((void *)(uintptr_t)o->map, (size_t)o->h.total_size);
    free(o->points);
    free(o->blocks);
    free(o->names);
    free(o->schema);
    free(o->entries);
    free(o->devices);
    free(o->table);
    memset(o, 0, sizeof *o);
}

static int pi__good_name(const char *name) {
    size_t length = strlen(name);
    if (!length || length > 240 || *name == '.' || strchr(name, '/') || !strncmp(name, "sem.", 4)) return 0;
    return !(length >= 6 && !strcmp(name + length - 6, ".lease")) && !(length >= 4 && !strcmp(name + length - 4, ".new"));
}

static int pi__open(const char *name, char *path, size_t size) {
    snprintf(path, size, "/dev/shm/%s", name);
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* a FIFO must not hold the caller */
}

/* Every place follows from the counts: the header must say the same, so nothing in it can point outside. */
static int pi__check_places(const pi_header *h) {
    uint64_t all = h->total_size, records = (uint64_t)h->points * sizeof(pi_record), words, at;
    if (!h->points || !h->blocks || h->blocks > h->points || !h->journal_entries) return 0;
    if (all > UINT64_C(1) << 56 || h->schema_length > all || h->names_length > all || h->text_length > all / PI_SLOTS
        || h->journal_entries > all / 64 || h->long_length > all || records > all / PI_SLOTS || h->text_length % 8)
        return 0;
    words = pi__align((uint64_t)h->blocks * 8, PI_ALIGN);
    at = pi__align(PI_HEADER_SIZE + h->schema_length, PI_ALIGN);
    if (h->schema_offset != PI_HEADER_SIZE || h->block_table_offset != at) return 0;
    if (h->point_table_offset != (at += pi__align((uint64_t)h->blocks * sizeof(pi_block), PI_ALIGN))) return 0;
    if (h->names_offset != (at += pi__align((uint64_t)h->points * sizeof(pi_point_entry), PI_ALIGN))) return 0;
    if (h->generation_offset != (at += pi__align(h->names_length, PI_ALIGN))) return 0;
    if (h->next_due_offset != (at += words) || h->sequence_offset != (at += words)) return 0;
    if (h->published_offset != (at += PI_SLOTS * words)) return 0;
    if (h->slots_offset != (at = pi__align(at + PI_SLOTS * words, PI_PAGE))) return 0;
    if (h->text_offset != pi__align(records, PI_ALIGN)
        || h->slot_size != h->text_offset + pi__align(h->text_length, PI_ALIGN)) return 0;
    if (h->journal_offset != (at += PI_SLOTS * h->slot_size)) return 0;
    at += pi__align(h->journal_entries * sizeof(pi_record), PI_ALIGN) + 2 * pi__align(h->journal_entries * 8, PI_ALIGN)
          + 2 * pi__align(h->journal_entries * 4, PI_ALIGN);
    return h->long_offset == at && pi__align(at + h->long_length, PI_PAGE) == all;
}

static pi_status pi__read_header(int fd, const char *name, pi_header *h, uint64_t size, char *m, size_t ms) {
    unsigned char bytes[PI_HEADER_SIZE];
    uint32_t checksum;
    if (size < PI_HEADER_SIZE || pread(fd, bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return pi__fail(PI_FOREIGN, m, ms, "%s: %" PRIu64 " bytes are too short for a process image", name, size);
    memcpy(h, bytes, sizeof *h);
    memcpy(&checksum, bytes + PI_CHECKSUM_OFFSET, sizeof checksum);
    if (memcmp(h->magic, "CPCIMAGE", 8) != 0)
        return pi__fail(PI_FOREIGN, m, ms, "%s: no process image; another program's object?", name);
    if (h->byte_order != PI_BYTE_ORDER_MARK)
        return pi__fail(PI_LAYOUT, m, ms, "%s: written in another byte order than this machine's", name);
    if (h->version != PI_LAYOUT_VERSION)
        return pi__fail(PI_LAYOUT, m, ms, "%s: layout version %" PRIu32 ", this reader knows version %u; use matching "
                        "versions on both sides", name, h->version, PI_LAYOUT_VERSION);
    if (checksum != pi__crc(0, bytes, PI_CHECKSUM_OFFSET))
        return pi__fail(PI_LAYOUT, m, ms, "%s: the header's checksum is wrong; the object is damaged", name);
    if (h->total_size != size)
        return pi__fail(PI_LAYOUT, m, ms, "%s: %" PRIu64 " bytes where the header says %" PRIu64 "; it is cut off", name,
                        size, h->total_size);
    if (h->header_size != PI_HEADER_SIZE || h->record_size != sizeof(pi_record) || h->slots != PI_SLOTS
        || !pi__check_places(h))
        return pi__fail(PI_LAYOUT, m, ms, "%s: the header contradicts itself; the object is damaged", name);
    return PI_OK;
}

static uint64_t pi__hash(const char *text, size_t length) { /* FNV-1a */
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

static int pi__index_names(pi_object *o) {
    uint32_t size = 4;
    while (size < (uint64_t)o->h.points * 2 && size < 1u << 31) size *= 2;
    if (!(o->table = calloc(size, sizeof *o->table))) return 0;
    o->table_mask = size - 1;
    for (uint32_t row = 0; row < o->h.points; row++) {
        uint64_t at = pi__hash(o->points[row].name, o->points[row].name_length);
        while (o->table[at & o->table_mask]) at++;
        o->table[at & o->table_mask] = row + 1;
    }
    return 1;
}

/* Copy the tables, check every number in them, and give each point its name. */
static int pi__read_tables(pi_object *o) {
    const pi_header *h = &o->h;
    const unsigned char *entries = o->map + h->point_table_offset;
    uint64_t name_at = 0, text_at = 0, copied = 0;
    uint32_t block = 0;
    memcpy(o->blocks, o->map + h->block_table_offset, (size_t)h->blocks * sizeof *o->blocks);
    for (uint32_t row = 0; row < h->points; row++) {
        pi_point_entry e;
        pi_point *p = &o->points[row];
        memcpy(&e, entries + (uint64_t)row * sizeof e, sizeof e);
        if (row && row == o->blocks[block].start + o->blocks[block].count && ++block >= h->blocks) return 0;
        int text = e.type == PI_TYPE_STRING || e.type == PI_TYPE_BYTES;
        uint64_t width = text ? PI_TEXT_HEAD + pi__align(e.text_size, 8) : 0;
        if (e.block != block || e.type < PI_TYPE_BOOL || e.type > PI_TYPE_BYTES || e.name_offset != name_at
            || e.name_length > h->names_length - name_at || e.device >= o->device_count || text != (e.text_size > 0)
            || e.text_size > PI_MAX_TEXT || (text && e.text_offset != text_at) || width > h->text_length - text_at)
            return 0;
        char *name = o->names + copied;
        memcpy(name, o->map + h->names_offset + name_at, e.name_length);
        name[e.name_length] = 0;
        *p = (pi_point){.name = name, .name_length = e.name_length, .block = block, .type = e.type, .flags = e.flags,
                        .device = e.device, .text_size = e.text_size, .text_offset = e.text_offset};
        name_at += e.name_length;
        copied += (uint64_t)e.name_length + 1;
        text_at += width;
    }
    return block == h->blocks - 1 && name_at == h->names_length && text_at == h->text_length;
}

static int pi__check_blocks(const pi_object *o) {
    uint64_t start = 0, text = 0;
    for (uint32_t i = 0; i < o->h.blocks; i++) {
        const pi_block *b = &o->blocks[i];
        if (b->start != start || !b->count || b->text_offset != text || b->text_length > o->h.text_length - text
            || b->text_length % 8) return 0;
        start += b->count;
        text += b->text_length;
    }
    return start == o->h.points && text == o->h.text_length;
}

/* Everything behind the header: checksums first, then each number. */
static pi_status pi__read_object(pi_object *o, const char *name, char *m, size_t ms) {
    const pi_header *h = &o->h;
    uint64_t tables = h->generation_offset - h->block_table_offset;
    o->points = calloc(h->points, sizeof *o->points);
    o->blocks = calloc(h->blocks, sizeof *o->blocks);
    o->names = malloc((size_t)h->names_length + h->points);
    o->schema = malloc((size_t)h->schema_length + 1);
    if (!o->points || !o->blocks || !o->names || !o->schema) return pi__fail(PI_NO_MEMORY, m, ms, "%s: no memory", name);
    memcpy(o->schema, o->map + h->schema_offset, (size_t)h->schema_length);
    if (pi__crc(0, (const unsigned char *)o->schema, h->schema_length) != h->schema_hash || !pi__index_schema(o))
        return pi__fail(PI_LAYOUT, m, ms, "%s: the schema can't be read; the object is damaged", name);
    if (pi__crc(0, o->map + h->block_table_offset, tables) != h->tables_hash || !pi__read_tables(o)
        || !pi__check_blocks(o))
        return pi__fail(PI_LAYOUT, m, ms, "%s: the tables can't be read; the object is damaged", name);
    if (!pi__index_names(o)) return pi__fail(PI_NO_MEMORY, m, ms, "%s: no memory", name);
    o->pitch = pi__align((uint64_t)h->blocks * 8, PI_ALIGN) / 8;
    o->journal_published = h->journal_offset + pi__align(h->journal_entries * sizeof(pi_record), PI_ALIGN);
    o->journal_long = o->journal_published + pi__align(h->journal_entries * 8, PI_ALIGN);
    o->journal_row = o->journal_long + pi__align(h->journal_entries * 8, PI_ALIGN);
    o->journal_length = o->journal_row + pi__align(h->journal_entries * 4, PI_ALIGN);
    return PI_OK;
}

static pi_status pi__map(int fd, const char *name, pi_object *o, char *m, size_t ms) {
    struct stat found;
    if (fstat(fd, &found) != 0) return pi__fail(PI_SYSTEM, m, ms, "%s: %s", name, strerror(errno));
    if (!S_ISREG(found.st_mode)) return pi__fail(PI_FOREIGN, m, ms, "%s: is no plain file; another program's?", name);
    pi_status status = pi__read_header(fd, name, &o->h, (uint64_t)found.st_size, m, ms);
    if (status != PI_OK) return status;
    void *map = mmap(NULL, (size_t)o->h.total_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return pi__fail(PI_SYSTEM, m, ms, "%s: %s", name, strerror(errno));
    o->map = map;
    o->device = found.st_dev;
    o->inode = found.st_ino;
    uint64_t state = pi__word(o, PI_WORD_STATE); /* acquire: the constants stand before READY */
    if (state != PI_STATE_READY)
        return pi__fail(PI_NOT_READY, m, ms, "%s: its state is %" PRIu64 "; try again in a moment", name, state);
    return pi__read_object(o, name, m, ms);
}

static pi_status pi__attach_object(const char *name, pi_object *o, char *m, size_t ms) {
    char path[300];
    memset(o, 0, sizeof *o);
    int fd = pi__open(name, path, sizeof path);
    if (fd < 0 && errno == ENOENT)
        return pi__fail(PI_NOT_FOUND, m, ms, "there is no segment '%s'; is its writer running?", name);
    if (fd < 0 && (errno == EACCES || errno == EPERM))
        return pi__fail(PI_NOT_PERMITTED, m, ms, "%s: this user may not open it; join its group", name);
    if (fd < 0) return pi__fail(PI_FOREIGN, m, ms, "%s: can't be opened (%s)", name, strerror(errno));
    pi_status status = pi__map(fd, name, o, m, ms);
    close(fd);
    if (status != PI_OK) pi__release(o);
    return status;
}

pi_status pi_attach(const char *segment, pi_image **image, char *message, size_t message_size) {
    if (!segment || !image) return PI_ARGUMENT;
    *image = NULL;
    if (*segment == '/') segment++;
    if (!pi__good_name(segment))
        return pi__fail(PI_ARGUMENT, message, message_size, "'%.80s' is no name of a segment", segment);
    pi_image *made = calloc(1, sizeof *made);
    if (!made || !(made->name = strdup(segment))) {
        free(made);
        return pi__fail(PI_NO_MEMORY, message, message_size, "no memory");
    }
    pi_status status = pi__attach_object(segment, &made->now, message, message_size);
    if (status != PI_OK) {
        free(made->name);
        free(made);
        return status;
    }
    made->attachments = 1;
    made->seen = pi__word(&made->now, PI_WORD_GENERATION);
    *image = made;
    return PI_OK;
}

static void pi__drop_semaphore(pi_image *image) {
    pi_unlock(image);
    if (image->semaphore) sem_close(image->semaphore);
    image->semaphore = NULL;
}

static void pi__drop_before(pi_image *image) {
    if (image->has_before) pi__release(&image->before);
    image->has_before = 0;
}

void pi_detach(pi_image *image) {
    if (!image) return;
    pi__drop_semaphore(image);
    pi__drop_before(image);
    pi__release(&image->now);
    free(image->name);
    free(image);
}

static int pi__fresh(const pi_object *o, int64_t now) {
    int64_t age = (int64_t)((uint64_t)now - pi__word(o, PI_WORD_HEARTBEAT));
    return age <= (int64_t)o->h.stale_after && pi__word(o, PI_WORD_STATE) == PI_STATE_READY;
}

/* Where the object is retired or its writer silent, look for a new object by the name and change to it. */
static void pi__follow(pi_image *image) {
    char path[300];
    struct stat found;
    pi_object next;
    int64_t now = pi__clock();
    if (now < image->look_after || pi__fresh(&image->now, now)) return;
    image->look_after = now + (pi__word(&image->now, PI_WORD_STATE) == PI_STATE_RETIRED ? 5000000 : 100000000);
    snprintf(path, sizeof path, "/dev/shm/%s", image->name);
    if (stat(path, &found) != 0) return; /* not there: try again later */
    if (found.st_ino == image->now.inode && found.st_dev == image->now.device) return;
    if (pi__attach_object(image->name, &next, NULL, 0) != PI_OK) return; /* not (yet) for this reader */
    if (next.h.epoch == image->now.h.epoch) {
        pi__release(&next);
        return;
    }
    pi__drop_before(image);
    pi__drop_semaphore(image);
    if (image->uses_journal) {
        image->before = image->now; /* its journal is finished first */
        image->has_before = 1;
    } else {
        pi__release(&image->now);
    }
    image->now = next;
    image->attachments++;
    image->seen = 0; /* whatever the new object holds is new */
}

/* ---- what is attached ------------------------------------------------------------------------------------------ */

uint32_t pi_points(const pi_image *image, const pi_point **points) {
    if (points) *points = image->now.points;
    return image->now.h.points;
}

uint32_t pi_blocks(const pi_image *image, const pi_block **blocks) {
    if (blocks) *blocks = image->now.blocks;
    return image->now.h.blocks;
}

uint64_t pi_epoch(const pi_image *image) { return image->now.h.epoch; }
uint64_t pi_generation(const pi_image *image) { return pi__word(&image->now, PI_WORD_GENERATION); }
uint64_t pi_attachments(const pi_image *image) { return image->attachments; }
int pi_stale(const pi_image *image) { return !pi__fresh(&image->now, pi__clock()); }

const char *pi_schema(const pi_image *image, size_t *length) {
    *length = (size_t)image->now.h.schema_length;
    return image->now.schema;
}

int64_t pi_find(const pi_image *image, const char *full_name) {
    const pi_object *o = &image->now;
    size_t length = strlen(full_name);
    for (uint64_t at = pi__hash(full_name, length); o->table[at & o->table_mask]; at++) {
        uint32_t row = o->table[at & o->table_mask] - 1;
        if (o->points[row].name_length == length && !memcmp(o->points[row].name, full_name, length)) return row;
    }
    return -1;
}

static pi_status pi__copy_out(const char *from, size_t length, char *out, size_t size) {
    if (length + 1 > size) return PI_ARGUMENT;
    memcpy(out, from, length);
    out[length] = 0;
    return PI_OK;
}

pi_status pi_property(const pi_image *image, uint32_t row, const char *key, char *out, size_t size) {
    const pi_object *o = &image->now;
    if (row >= o->h.points || !key || !out || !size) return PI_ARGUMENT;
    pi__json j = {o->schema + o->entries[row], o->schema + o->h.schema_length};
    if (!pi__member(&j, key)) return PI_NOT_FOUND;
    if (!strcmp(key, "device")) j.at = o->schema + o->devices[o->points[row].device];
    const char *start = j.at;
    if (*start == '"') {
        int64_t length = pi__string(&j, out, size);
        if (length < 0 || (uint64_t)length >= size) return PI_ARGUMENT;
        out[length] = 0;
        return PI_OK;
    }
    return pi__skip(&j, PI_DEPTH) ? pi__copy_out(start, (size_t)(j.at - start), out, size) : PI_LAYOUT;
}

/* ---- waiting --------------------------------------------------------------------------------------------------- */

pi_status pi_wait(pi_image *image, int64_t timeout_ns) {
    int64_t until = timeout_ns < 0 ? INT64_MAX : pi__clock();
    if (timeout_ns >= 0) until = until > INT64_MAX - timeout_ns ? INT64_MAX : until + timeout_ns;
    for (;;) {
        pi__follow(image);
        const _Atomic uint32_t *word = (const _Atomic uint32_t *)(const void *)(image->now.map + PI_WORD_FUTEX);
        /* read before the generation: a publish in between makes the futex call return at once */
        uint32_t expected = atomic_load_explicit(word, memory_order_acquire);
        uint64_t generation = pi__word(&image->now, PI_WORD_GENERATION);
        if (generation != image->seen) {
            image->seen = generation;
            return PI_OK;
        }
        int64_t left = until - pi__clock();
        if (left <= 0) return PI_TIMEOUT;
        if (left > 250000000) left = 250000000; /* then look again: a wake may pass a crowd of waiters by */
        struct timespec limit = {.tv_sec = 0, .tv_nsec = (long)left};
        if (syscall(SYS_futex, word, FUTEX_WAIT, expected, &limit, NULL, 0) != 0 && errno != EAGAIN && errno != EINTR
            && errno != ETIMEDOUT)
            return PI_SYSTEM;
    }
}

/* ---- snapshots ------------------------------------------------------------------------------------------------- */

static int pi__room(void *where, size_t *room, size_t wanted) { /* *(T **)where holds at least `wanted` bytes */
    void *old, *made;
    if (*room >= wanted && *room) return 1;
    memcpy(&old, where, sizeof old);
    if (!(made = realloc(old, wanted ? wanted : 1))) return 0;
    memcpy(where, &made, sizeof made);
    *room = wanted ? wanted : 1;
    return 1;
}

/* Copy the latest slot of one block; again where the writer came round to it meanwhile.
 * Order: generation, sequence; records, texts, publish time; sequence again. */
static int pi__copy_block(const pi_object *o, uint32_t block, pi_snapshot *s) {
    const pi_block *b = &o->blocks[block];
    for (int tries = 0; tries < 10000; tries++) {
        uint64_t generation = pi__word(o, o->h.generation_offset + (uint64_t)block * 8);
        uint64_t slot = generation & (PI_SLOTS - 1), place = (slot * o->pitch + block) * 8;
        const unsigned char *from = o->map + o->h.slots_offset + slot * o->h.slot_size;
        uint64_t before = pi__word(o, o->h.sequence_offset + place);
        if (before != 2 * generation) continue;
        memcpy(s->records + b->start, from + (uint64_t)b->start * sizeof(pi_record), b->count * sizeof(pi_record));
        if (b->text_length)
            memcpy(s->texts + b->text_offset, from + o->h.text_offset + b->text_offset, (size_t)b->text_length);
        s->published[block] = (int64_t)pi__word(o, o->h.published_offset + place);
        atomic_thread_fence(memory_order_acquire); /* every byte is read before the sequence is looked at again */
        if (pi__word(o, o->h.sequence_offset + place) != before) continue;
        s->generations[block] = generation;
        return 1;
    }
    return 0;
}

static void pi__mark_stale(const pi_object *o, pi_snapshot *s) {
    s->taken = pi__clock();
    s->stale = !pi__fresh(o, s->taken);
    for (uint32_t i = 0; i < s->blocks; i++) {
        uint64_t due = pi__word(o, o->h.next_due_offset + (uint64_t)i * 8);
        const pi_block *b = &o->blocks[i];
        s->overdue[i] = s->stale || (due && (int64_t)(due + o->h.grace) < s->taken);
        if (!s->overdue[i]) continue;
        for (uint32_t row = b->start; row < b->start + b->count; row++)
            if (s->records[row].quality >> 30 == 0) s->records[row].quality = PI_UNCERTAIN_LAST_USABLE_VALUE;
    }
}

pi_status pi_take(pi_image *image, pi_snapshot *s) {
    pi__follow(image);
    const pi_object *o = &image->now;
    size_t points = o->h.points, blocks = o->h.blocks;
    if (!pi__room(&s->records, &s->room[0], points * sizeof(pi_record))
        || !pi__room(&s->texts, &s->room[1], (size_t)o->h.text_length)
        || !pi__room(&s->generations, &s->room[2], blocks * 8) || !pi__room(&s->published, &s->room[3], blocks * 8)
        || !pi__room(&s->overdue, &s->room[4], blocks))
        return PI_NO_MEMORY;
    s->points = o->h.points;
    s->blocks = o->h.blocks;
    s->epoch = o->h.epoch;
    s->generation = image->seen = pi__word(o, PI_WORD_GENERATION); /* not newer than what is copied after it */
    for (uint32_t i = 0; i < s->blocks; i++)
        if (!pi__copy_block(o, i, s)) return PI_NOT_READY; /* no lone writer can be this fast */
    pi__mark_stale(o, s);
    return PI_OK;
}

void pi_snapshot_free(pi_snapshot *s) {
    free(s->records);
    free(s->texts);
    free(s->generations);
    free(s->published);
    free(s->overdue);
    memset(s, 0, sizeof *s);
}

/* An integer comes from `raw`, which loses nothing, unless `value` says otherwise. */
static void pi__integer(const pi_record *r, int is_signed, pi_value *v) {
    int64_t integer;
    memcpy(&integer, &r->raw, sizeof integer);
    double same = is_signed ? (double)integer : (double)r->raw;
    int keep = same == r->value || !isfinite(r->value);
    v->kind = is_signed ? PI_SIGNED : PI_UNSIGNED;
    if (is_signed)
        v->integer = keep ? integer : r->value >= 0x1p63 ? INT64_MAX : r->value < -0x1p63 ? INT64_MIN : (int64_t)r->value;
    else
        v->natural = keep ? r->raw : r->value >= 0x1p64 ? UINT64_MAX : r->value <= -1.0 ? 0 : (uint64_t)r->value;
}

static void pi__numeric(const pi_record *r, uint16_t type, pi_value *v) {
    if (type == PI_TYPE_BOOL) {
        v->kind = PI_BOOLEAN;
        v->boolean = r->value != 0;
    } else if (type >= PI_TYPE_FLOAT32) {
        v->kind = PI_REAL;
        v->real = r->value;
    } else {
        pi__integer(r, type % 2 == 0, v); /* int8, int16, int32, int64 have the even codes */
    }
}

pi_status pi_value_at(const pi_image *image, const pi_snapshot *s, uint32_t row, pi_value *v) {
    const pi_object *o = &image->now;
    uint32_t head[2];
    memset(v, 0, sizeof *v);
    if (row >= s->points || s->epoch != o->h.epoch) return PI_ARGUMENT;
    const pi_record *r = &s->records[row];
    const pi_point *p = &o->points[row];
    if (r->source_time == 0 && r->quality >> 31) return PI_OK; /* nothing was ever read */
    if (!p->text_size) {
        pi__numeric(r, p->type, v);
        return PI_OK;
    }
    memcpy(head, s->texts + p->text_offset, sizeof head);
    v->kind = p->type == PI_TYPE_STRING ? PI_TEXT : PI_BYTES;
    v->text = (const char *)s->texts + p->text_offset + PI_TEXT_HEAD;
    v->length = head[0] < p->text_size ? head[0] : p->text_size;
    v->cut = head[1] > head[0];
    return PI_OK;
}

/* ---- the journal ----------------------------------------------------------------------------------------------- */

#define PI_BATCH 4096u

pi_cursor pi_end(pi_image *image) {
    pi__follow(image);
    image->uses_journal = 1;
    return (pi_cursor){image->now.h.epoch, pi__word(&image->now, PI_WORD_JOURNAL_COMMITTED)};
}

static uint64_t pi__oldest(const pi_object *o) { /* entries before this one are being overwritten, or were */
    uint64_t reserved = pi__word(o, PI_WORD_JOURNAL_RESERVED);
    return reserved > o->h.journal_entries ? reserved - o->h.journal_entries : 0;
}

static int pi__batch_room(pi_changes *b, size_t n, size_t text) {
    return pi__room(&b->rows, &b->room[0], n * 4) && pi__room(&b->records, &b->room[1], n * sizeof(pi_record))
        && pi__room(&b->published, &b->room[2], n * 8) && pi__room(&b->text_place, &b->room[3], n * 4)
        && pi__room(&b->text_length, &b->room[4], n * 4) && pi__room(&b->text_state, &b->room[5], n)
        && pi__room(&b->text, &b->room[6], text);
}

/* The text of the entry at `place`, appended to the batch. The entry may be half overwritten: nothing of it is
 * trusted. 0 where the batch has no room for it. */
static int pi__read_text(const pi_object *o, uint64_t place, pi_changes *b, size_t i, size_t *used) {
    uint32_t row = b->rows[i], length;
    uint64_t position, size = o->h.long_length;
    b->text_state[i] = 0;
    if (row >= o->h.points || !o->points[row].text_size || !size) return 1;
    memcpy(&length, o->map + o->journal_length + place * 4, sizeof length);
    memcpy(&position, o->map + o->journal_long + place * 8, sizeof position);
    uint64_t stored = length & ~PI_CUT_FLAG;
    if (stored > o->points[row].text_size) stored = o->points[row].text_size;
    if (stored > size) stored = size;
    if (stored > b->room[6] - *used) return 0;
    uint64_t at = position % size, head = stored < size - at ? stored : size - at;
    memcpy(b->text + *used, o->map + o->h.long_offset + at, (size_t)head);
    memcpy(b->text + *used + head, o->map + o->h.long_offset, (size_t)(stored - head));
    atomic_thread_fence(memory_order_acquire); /* the bytes are read before the reservation that would overwrite them */
    uint64_t reserved = pi__word(o, PI_WORD_LONG_RESERVED);
    int gone = stored && reserved > size && position < reserved - size;
    b->text_state[i] = gone ? 3 : length & PI_CUT_FLAG ? 2 : 1;
    b->text_place[i] = (uint32_t)*used;
    b->text_length[i] = gone ? 0 : (uint32_t)stored;
    *used += gone ? 0 : (size_t)stored;
    return 1;
}

static void pi__drop_entries(pi_changes *b, size_t late) { /* what was overwritten while it was copied */
    size_t left = b->count - late;
    memmove(b->rows, b->rows + late, left * sizeof *b->rows);
    memmove(b->records, b->records + late, left * sizeof *b->records);
    memmove(b->published, b->published + late, left * sizeof *b->published);
    memmove(b->text_place, b->text_place + late, left * sizeof *b->text_place);
    memmove(b->text_length, b->text_length + late, left * sizeof *b->text_length);
    memmove(b->text_state, b->text_state + late, left);
    b->count = left;
}

/* Copy entries from `start` on, then see by `reserved` what of the copy was being overwritten. */
static void pi__read_entries(const pi_object *o, uint64_t start, uint64_t count, pi_changes *b) {
    size_t used = 0, i = 0;
    for (; i < count; i++) {
        uint64_t place = (start + i) % o->h.journal_entries;
        memcpy(&b->records[i], o->map + o->h.journal_offset + place * sizeof(pi_record), sizeof(pi_record));
        memcpy(&b->published[i], o->map + o->journal_published + place * 8, 8);
        memcpy(&b->rows[i], o->map + o->journal_row + place * 4, 4);
        if (!pi__read_text(o, place, b, i, &used)) break;
    }
    b->count = i;
    atomic_thread_fence(memory_order_acquire); /* every byte is read before the reservation is looked at again */
    uint64_t oldest = pi__oldest(o), late = oldest > start ? oldest - start : 0;
    if (late > b->count) late = b->count;
    pi__drop_entries(b, (size_t)late);
    b->lost += late;
    for (i = 0; i < b->count; i++) {
        b->texts_lost += b->text_state[i] == 3;
        if (b->rows[i] >= o->h.points) b->rows[i] = 0; /* no writer of ours leaves such a row */
    }
}

static pi_status pi__read_batch(const pi_object *o, pi_cursor *cursor, pi_changes *b) {
    uint64_t committed = pi__word(o, PI_WORD_JOURNAL_COMMITTED), oldest = pi__oldest(o);
    int begins = !cursor->epoch || cursor->epoch != o->h.epoch;
    b->new_epoch = cursor->epoch && begins;
    b->count = 0;
    b->lost = b->texts_lost = 0;
    b->epoch = o->h.epoch;
    b->points = o->points;
    b->point_count = o->h.points;
    if (!begins && cursor->position > committed) return PI_ARGUMENT;
    uint64_t start = begins || cursor->position < oldest ? oldest : cursor->position;
    if (start > committed) start = committed;
    if (!begins) b->lost = start - cursor->position; /* what was before is no loss to a reader that begins */
    uint64_t count = committed - start < PI_BATCH ? committed - start : PI_BATCH;
    if (!pi__batch_room(b, (size_t)count, (size_t)o->h.long_length)) return PI_NO_MEMORY;
    uint64_t lost = b->lost;
    pi__read_entries(o, start, count, b);
    *cursor = (pi_cursor){o->h.epoch, start + b->count + (b->lost - lost)};
    return b->count || b->lost || b->new_epoch ? PI_OK : PI_TIMEOUT;
}

pi_status pi_read_changes(pi_image *image, pi_cursor *cursor, pi_changes *batch) {
    image->uses_journal = 1;
    pi__follow(image);
    if (image->has_before && cursor->epoch == image->before.h.epoch) {
        pi_status status = pi__read_batch(&image->before, cursor, batch);
        if (status != PI_TIMEOUT) return status;
    }
    pi__drop_before(image);
    return pi__read_batch(&image->now, cursor, batch);
}

void pi_changes_free(pi_changes *b) {
    free(b->rows);
    free(b->records);
    free(b->published);
    free(b->text_place);
    free(b->text_length);
    free(b->text_state);
    free(b->text);
    memset(b, 0, sizeof *b);
}

pi_status pi_change_value(const pi_changes *b, size_t entry, pi_value *v) {
    memset(v, 0, sizeof *v);
    if (entry >= b->count) return PI_ARGUMENT;
    const pi_point *p = &b->points[b->rows[entry]];
    if (!p->text_size) {
        pi__numeric(&b->records[entry], p->type, v);
        return PI_OK;
    }
    if (b->text_state[entry] != 1 && b->text_state[entry] != 2) return PI_OK;
    v->kind = p->type == PI_TYPE_STRING ? PI_TEXT : PI_BYTES;
    v->text = (const char *)b->text + b->text_place[entry];
    v->length = b->text_length[entry];
    v->cut = b->text_state[entry] == 2;
    return PI_OK;
}

/* ---- the public semaphore -------------------------------------------------------------------------------------- */

static pi_status pi__open_semaphore(pi_image *image) {
    char name[PI_SEMAPHORE_NAME_SIZE + 2] = "/";
    memcpy(name + 1, image->now.map + PI_SEMAPHORE_NAME_OFFSET, PI_SEMAPHORE_NAME_SIZE - 1);
    if (!name[1] || strchr(name + 1, '/')) return PI_NOT_FOUND;
    if (image->semaphore && !strcmp(name, image->semaphore_name)) return PI_OK;
    pi__drop_semaphore(image);
    sem_t *opened = sem_open(name, 0);
    if (opened == SEM_FAILED) return errno == ENOENT ? PI_NOT_FOUND : errno == EACCES ? PI_NOT_PERMITTED : PI_SYSTEM;
    image->semaphore = opened;
    memcpy(image->semaphore_name, name, sizeof name);
    return PI_OK;
}

pi_status pi_lock(pi_image *image, int64_t timeout_ns) {
    pi__follow(image);
    if (image->locked) return PI_ARGUMENT;
    pi_status status = pi__open_semaphore(image);
    if (status != PI_OK) return status;
#if defined(__GLIBC__) && (__GLIBC__ > 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ >= 30))
    const clockid_t clock = CLOCK_MONOTONIC; /* a wall clock that is set would change the wait */
#else
    const clockid_t clock = CLOCK_REALTIME;
#endif
    struct timespec until;
    clock_gettime(clock, &until);
    int64_t part = until.tv_nsec + (timeout_ns > 0 ? timeout_ns % 1000000000 : 0);
    until.tv_sec += (time_t)((timeout_ns > 0 ? timeout_ns / 1000000000 : 0) + part / 1000000000);
    until.tv_nsec = (long)(part % 1000000000);
    int failed;
    do {
        if (timeout_ns < 0) failed = sem_wait(image->semaphore);
#if defined(__GLIBC__) && (__GLIBC__ > 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ >= 30))
        else failed = sem_clockwait(image->semaphore, clock, &until);
#else
        else failed = sem_timedwait(image->semaphore, &until);
#endif
    } while (failed && errno == EINTR);
    if (failed) return errno == ETIMEDOUT ? PI_TIMEOUT : PI_SYSTEM;
    image->locked = 1;
    return PI_OK;
}

pi_status pi_unlock(pi_image *image) {
    if (!image->locked) return PI_ARGUMENT;
    image->locked = 0;
    return sem_post(image->semaphore) == 0 ? PI_OK : PI_SYSTEM;
}

#endif /* PROCESS_IMAGE_IMPLEMENTATION */
