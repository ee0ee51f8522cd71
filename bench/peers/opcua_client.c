/* The bare read on open62541's client, as fast as it goes: opcua_client URL COUNT CHUNK [CERTIFICATE KEY SERVER].
 * Reads ns=2;i=1..COUNT. For each number on standard input it makes so many whole reads and prints the seconds on the
 * wall and on the processor. With certificates: Basic256Sha256, SignAndEncrypt. */
#include <open62541/client_config_default.h>
#include <open62541/client_highlevel.h>
#include <open62541/plugin/log_stdout.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static UA_ByteString load(const char *path) {
    UA_ByteString bytes = UA_BYTESTRING_NULL;
    FILE *file = fopen(path, "rb");
    if(!file) exit(1);
    fseek(file, 0, SEEK_END);
    UA_ByteString_allocBuffer(&bytes, (size_t)ftell(file));
    fseek(file, 0, SEEK_SET);
    if(fread(bytes.data, 1, bytes.length, file) != bytes.length) exit(1);
    fclose(file);
    return bytes;
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static double sum;

static void read_all(UA_Client *client, UA_ReadValueId *ids, unsigned count, unsigned chunk) {
    for(unsigned at = 0; at < count; at += chunk) {
        UA_ReadRequest request;
        UA_ReadRequest_init(&request);
        request.timestampsToReturn = UA_TIMESTAMPSTORETURN_BOTH;
        request.nodesToRead = ids + at;
        request.nodesToReadSize = count - at < chunk ? count - at : chunk;
        UA_ReadResponse response = UA_Client_Service_read(client, request);
        if(response.responseHeader.serviceResult || response.resultsSize != request.nodesToReadSize) exit(3);
        for(size_t i = 0; i < response.resultsSize; i++)
            if(response.results[i].hasValue && response.results[i].value.type == &UA_TYPES[UA_TYPES_DOUBLE])
                sum += *(UA_Double *)response.results[i].value.data;
        UA_ReadResponse_clear(&response);
    }
}

int main(int argc, char **argv) {
    if(argc < 4) return 2;
    unsigned count = (unsigned)atoi(argv[2]), chunk = (unsigned)atoi(argv[3]), rounds;
    UA_ClientConfig config;
    memset(&config, 0, sizeof(config));
    UA_Logger logger = UA_Log_Stdout_withLevel(UA_LOGLEVEL_FATAL);
    config.logging = &logger;
    if(argc > 6) {
        UA_ByteString certificate = load(argv[4]), key = load(argv[5]), server = load(argv[6]);
        UA_ClientConfig_setDefaultEncryption(&config, certificate, key, &server, 1, NULL, 0);
        config.securityMode = UA_MESSAGESECURITYMODE_SIGNANDENCRYPT;
        config.securityPolicyUri = UA_STRING_ALLOC("http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256");
        UA_String_clear(&config.clientDescription.applicationUri);
        config.clientDescription.applicationUri = UA_STRING_ALLOC("urn:cpc:test:client");
    } else {
        UA_ClientConfig_setDefault(&config);
    }
    UA_Client *client = UA_Client_newWithConfig(&config);
    if(UA_Client_connect(client, argv[1])) return 1;
    UA_ReadValueId *ids = (UA_ReadValueId *)calloc(count, sizeof(UA_ReadValueId));
    for(unsigned i = 0; i < count; i++) {
        ids[i].nodeId = UA_NODEID_NUMERIC(2, i + 1);
        ids[i].attributeId = UA_ATTRIBUTEID_VALUE;
    }
    printf("ready\n");
    fflush(stdout);
    while(scanf("%u", &rounds) == 1) {
        double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        for(unsigned i = 0; i < rounds; i++) read_all(client, ids, count, chunk);
        printf("%.9f %.9f\n", now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        fflush(stdout);
    }
    UA_Client_disconnect(client);
    UA_Client_delete(client);
    return sum == 0.0;
}
