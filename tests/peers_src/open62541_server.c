/* An OPC UA server on open62541 for tests: nodes of every built-in type, many doubles, faults on demand.
 *
 * open62541_server PORT [doubles=N] [mixed=N] [moving=MS] [limit=N] [sessions=N] [swap=1] [user=NAME password=TEXT]
 *                  [without=N] [text=N] (a double that is left out, or a text instead)
 *                  [uri=URI certificate=DER key=DER [trust=DER]] [unit=TEXT]
 * Namespace urn:cpc:test:plant holds i=1..N (doubles) and one string id for each type; swap=1 registers another
 * namespace before it. Prints "listening PORT", then serves until SIGTERM. */
#include <open62541/plugin/accesscontrol_default.h>
#include <open62541/plugin/log_stdout.h>
#include <open62541/server.h>
#include <open62541/server_config_default.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile UA_Boolean running = true;
static UA_UInt16 plant;
static unsigned doubles, mixed, round_;

static void stop(int number) { (void)number; running = false; }

static const char *argument(int argc, char **argv, const char *name) {
    size_t length = strlen(name);
    for(int i = 2; i < argc; i++)
        if(!strncmp(argv[i], name, length) && argv[i][length] == '=') return argv[i] + length + 1;
    return NULL;
}

static UA_ByteString load(const char *path) {
    UA_ByteString bytes = UA_BYTESTRING_NULL;
    FILE *file = path ? fopen(path, "rb") : NULL;
    if(!file) return bytes;
    fseek(file, 0, SEEK_END);
    UA_ByteString_allocBuffer(&bytes, (size_t)ftell(file));
    fseek(file, 0, SEEK_SET);
    if(fread(bytes.data, 1, bytes.length, file) != bytes.length) bytes.length = 0;
    fclose(file);
    return bytes;
}

static void add(UA_Server *server, UA_NodeId id, const UA_Variant *value, UA_Byte access) {
    UA_VariableAttributes attributes = UA_VariableAttributes_default;
    UA_UInt32 any = 0;
    if(value) {
        attributes.value = *value;
        if(value->type) attributes.dataType = value->type->typeId;
        attributes.valueRank = value->arrayLength ? UA_VALUERANK_ONE_DIMENSION : UA_VALUERANK_SCALAR;
        attributes.arrayDimensions = &any;
        attributes.arrayDimensionsSize = value->arrayLength ? 1 : 0;
    }
    attributes.accessLevel = access;
    UA_StatusCode result = UA_Server_addVariableNode(
        server, id, UA_NODEID_NUMERIC(0, UA_NS0ID_OBJECTSFOLDER), UA_NODEID_NUMERIC(0, UA_NS0ID_ORGANIZES),
        UA_QUALIFIEDNAME(plant, "node"), UA_NODEID_NUMERIC(0, UA_NS0ID_BASEDATAVARIABLETYPE), attributes, NULL, NULL);
    if(result) fprintf(stderr, "node: %s\n", UA_StatusCode_name(result));
}

static void add_scalar(UA_Server *server, char *name, void *value, const UA_DataType *type) {
    UA_Variant variant;
    UA_Variant_init(&variant);
    UA_Variant_setScalar(&variant, value, type);
    add(server, UA_NODEID_STRING(plant, name), &variant, UA_ACCESSLEVELMASK_READ | UA_ACCESSLEVELMASK_WRITE);
}

/* A double with a status, a source time in 100 ns since 1601 and picoseconds in units of 10 ps. */
static void add_stamped(UA_Server *server, char *name, UA_Double number, UA_StatusCode status, UA_DateTime time,
                        UA_UInt16 picoseconds) {
    add_scalar(server, name, &number, &UA_TYPES[UA_TYPES_DOUBLE]);
    UA_DataValue value;
    UA_DataValue_init(&value);
    UA_Variant_setScalar(&value.value, &number, &UA_TYPES[UA_TYPES_DOUBLE]);
    value.hasValue = true;
    value.hasStatus = status != 0;
    value.status = status;
    value.hasSourceTimestamp = true;
    value.sourceTimestamp = time;
    value.hasSourcePicoseconds = picoseconds != 0;
    value.sourcePicoseconds = picoseconds;
    UA_Server_writeDataValue(server, UA_NODEID_STRING(plant, name), value);
}

#define SCALAR(name, kind, TYPE, literal) \
    do { UA_##kind v = literal; add_scalar(server, name, &v, &UA_TYPES[UA_TYPES_##TYPE]); } while(0)

static void add_types(UA_Server *server) {
    SCALAR("Boolean", Boolean, BOOLEAN, true);
    SCALAR("SByte", SByte, SBYTE, -128);
    SCALAR("Byte", Byte, BYTE, 255);
    SCALAR("Int16", Int16, INT16, -32768);
    SCALAR("UInt16", UInt16, UINT16, 65535);
    SCALAR("Int32", Int32, INT32, -2147483647 - 1);
    SCALAR("UInt32", UInt32, UINT32, 4294967295u);
    SCALAR("Int64", Int64, INT64, -9223372036854775807LL - 1);
    SCALAR("UInt64", UInt64, UINT64, 18446744073709551615ULL);
    SCALAR("Float", Float, FLOAT, 3.25f);
    SCALAR("Double", Double, DOUBLE, 1.0 / 3.0);
    SCALAR("String", String, STRING, UA_STRING("K\xc3\xbchlung \xe2\x82\xac"));
    SCALAR("DateTime", DateTime, DATETIME, 133497000001234567LL);
    UA_Guid guid = {0x09087e75, 0x8e5e, 0x499b, {0x95, 0x4f, 0xf2, 0xa9, 0x60, 0x3d, 0xb2, 0x8a}};
    add_scalar(server, "Guid", &guid, &UA_TYPES[UA_TYPES_GUID]);
    UA_ByteString octets = UA_BYTESTRING("\x01\x02\xfe\xff");
    add_scalar(server, "ByteString", &octets, &UA_TYPES[UA_TYPES_BYTESTRING]);
    UA_LocalizedText text = UA_LOCALIZEDTEXT("de", "L\xc3\xa4uft");
    add_scalar(server, "LocalizedText", &text, &UA_TYPES[UA_TYPES_LOCALIZEDTEXT]);
    UA_QualifiedName name = UA_QUALIFIEDNAME(2, "Name");
    add_scalar(server, "QualifiedName", &name, &UA_TYPES[UA_TYPES_QUALIFIEDNAME]);
    UA_NodeId node = UA_NODEID_STRING(1, "a;b");
    add_scalar(server, "NodeId", &node, &UA_TYPES[UA_TYPES_NODEID]);
    SCALAR("StatusCode", StatusCode, STATUSCODE, UA_STATUSCODE_BADDEVICEFAILURE);
    UA_ServerState state = UA_SERVERSTATE_SUSPENDED;
    add_scalar(server, "Enumeration", &state, &UA_TYPES[UA_TYPES_SERVERSTATE]);
    UA_EUInformation unit;
    UA_EUInformation_init(&unit);
    unit.unitId = 4408652;
    unit.displayName = UA_LOCALIZEDTEXT("", "\xc2\xb0""C");
    add_scalar(server, "Structure", &unit, &UA_TYPES[UA_TYPES_EUINFORMATION]);
}

/* A structure of our own: DriveState {String Label; Motor {Double Speed; Boolean On}; Mode (enumeration); Float Phases[];
 * Motor Axes[]; optional UInt64 Counter}, i=5101 and on; its type nodes are there, so that a client can learn it. */
typedef struct { UA_Double speed; UA_Boolean on; } Motor;
typedef struct {
    UA_String label; Motor motor; UA_Int32 mode; size_t phasesSize; UA_Float *phases; size_t axesSize; Motor *axes;
    UA_UInt64 *counter;
} DriveState;

#define BETWEEN(type, before, beforeType, next) (offsetof(type, next) - offsetof(type, before) - sizeof(beforeType))

static UA_DataType drive_types[3];
static UA_DataTypeMember motor_members[2], drive_members[6];
static UA_DataTypeArray drive_type_array = {NULL, 3, drive_types, false};

static void member(UA_DataTypeMember *m, const char *name, const UA_DataType *type, size_t padding, bool array,
                   bool optional) {
    m->memberName = name;
    m->memberType = type;
    m->padding = (UA_Byte)padding;
    m->isArray = array;
    m->isOptional = optional;
}

static void define_drive(void) {
    UA_DataType *motor = &drive_types[0], *mode = &drive_types[1], *drive = &drive_types[2];
    memset(drive_types, 0, sizeof(drive_types));
    member(&motor_members[0], "Speed", &UA_TYPES[UA_TYPES_DOUBLE], 0, false, false);
    member(&motor_members[1], "On", &UA_TYPES[UA_TYPES_BOOLEAN], 0, false, false);
    *motor = (UA_DataType){.typeName = "Motor", .typeId = UA_NODEID_NUMERIC(plant, 5101),
        .binaryEncodingId = UA_NODEID_NUMERIC(plant, 5111), .memSize = sizeof(Motor),
        .typeKind = UA_DATATYPEKIND_STRUCTURE, .pointerFree = true, .membersSize = 2, .members = motor_members};
    *mode = UA_TYPES[UA_TYPES_SERVERSTATE];
    mode->typeName = "Mode";
    mode->typeId = UA_NODEID_NUMERIC(plant, 5102);
    member(&drive_members[0], "Label", &UA_TYPES[UA_TYPES_STRING], 0, false, false);
    member(&drive_members[1], "Motor", motor, BETWEEN(DriveState, label, UA_String, motor), false, false);
    member(&drive_members[2], "Mode", mode, BETWEEN(DriveState, motor, Motor, mode), false, false);
    member(&drive_members[3], "Phases", &UA_TYPES[UA_TYPES_FLOAT],
           BETWEEN(DriveState, mode, UA_Int32, phasesSize), true, false);
    member(&drive_members[4], "Axes", motor, BETWEEN(DriveState, phases, void *, axesSize), true, false);
    member(&drive_members[5], "Counter", &UA_TYPES[UA_TYPES_UINT64],
           BETWEEN(DriveState, axes, void *, counter), false, true);
    *drive = (UA_DataType){.typeName = "DriveState", .typeId = UA_NODEID_NUMERIC(plant, 5103),
        .binaryEncodingId = UA_NODEID_NUMERIC(plant, 5113), .memSize = sizeof(DriveState),
        .typeKind = UA_DATATYPEKIND_OPTSTRUCT, .membersSize = 6, .members = drive_members};
}

static void add_drive_type(UA_Server *server, UA_UInt32 id, UA_UInt32 encoding, UA_UInt32 base, char *name) {
    UA_DataTypeAttributes type = UA_DataTypeAttributes_default;
    type.displayName = UA_LOCALIZEDTEXT("", name);
    UA_Server_addDataTypeNode(server, UA_NODEID_NUMERIC(plant, id), UA_NODEID_NUMERIC(0, base),
                              UA_NODEID_NUMERIC(0, UA_NS0ID_HASSUBTYPE), UA_QUALIFIEDNAME(plant, name), type, NULL,
                              NULL);
    if(!encoding) return;
    UA_ObjectAttributes object = UA_ObjectAttributes_default;
    UA_Server_addObjectNode(server, UA_NODEID_NUMERIC(plant, encoding), UA_NODEID_NUMERIC(plant, id),
                            UA_NODEID_NUMERIC(0, UA_NS0ID_HASENCODING), UA_QUALIFIEDNAME(0, "Default Binary"),
                            UA_NODEID_NUMERIC(0, UA_NS0ID_DATATYPEENCODINGTYPE), object, NULL, NULL);
}

static void add_drive(UA_Server *server) {
    add_drive_type(server, 5101, 5111, UA_NS0ID_STRUCTURE, "Motor");
    add_drive_type(server, 5102, 0, UA_NS0ID_ENUMERATION, "Mode");
    add_drive_type(server, 5103, 5113, UA_NS0ID_STRUCTURE, "DriveState");
    UA_Float phases[3] = {1.5f, 2.5f, 3.5f};
    Motor axes[2] = {{-1.0, false}, {1e-3, true}};
    UA_UInt64 counter = 18446744073709551615ULL;
    DriveState states[2] = {
        {UA_STRING("L\xc3\xbc""fter"), {1480.25, true}, 2, 3, phases, 2, axes, NULL},
        {UA_STRING(""), {0.0, false}, -1, 0, NULL, 0, NULL, &counter},
    };
    add_scalar(server, "Drive", &states[0], &drive_types[2]);
    UA_Variant array;
    UA_Variant_init(&array);
    UA_Variant_setArray(&array, states, 2, &drive_types[2]);
    add(server, UA_NODEID_STRING(plant, "Drives"), &array, UA_ACCESSLEVELMASK_READ);
}

/* A variable with engineering unit and range, as an AnalogItem has them. */
static void add_analog(UA_Server *server, char *name, char *text, UA_Int32 id, UA_Double low, UA_Double high) {
    UA_Double number = (low + high) / 2;
    add_scalar(server, name, &number, &UA_TYPES[UA_TYPES_DOUBLE]);
    UA_EUInformation unit;
    UA_EUInformation_init(&unit);
    unit.namespaceUri = UA_STRING("http://www.opcfoundation.org/UA/units/un/cefact");
    unit.unitId = id;
    unit.displayName = UA_LOCALIZEDTEXT("", text);
    UA_Range range = {low, high};
    UA_VariableAttributes attributes = UA_VariableAttributes_default;
    for(int i = 0; i < 2; i++) {
        if(i) UA_Variant_setScalar(&attributes.value, &range, &UA_TYPES[UA_TYPES_RANGE]);
        else UA_Variant_setScalar(&attributes.value, &unit, &UA_TYPES[UA_TYPES_EUINFORMATION]);
        attributes.dataType = attributes.value.type->typeId;
        UA_Server_addVariableNode(server, UA_NODEID_NULL, UA_NODEID_STRING(plant, name),
                                  UA_NODEID_NUMERIC(0, UA_NS0ID_HASPROPERTY),
                                  UA_QUALIFIEDNAME(0, i ? "EURange" : "EngineeringUnits"),
                                  UA_NODEID_NUMERIC(0, UA_NS0ID_PROPERTYTYPE), attributes, NULL, NULL);
    }
}

/* The mixed nodes, i=100000 and on: types in turn, and values, statuses, times and picoseconds that change. */
static const int mixed_types[13] = {
    UA_TYPES_BOOLEAN, UA_TYPES_SBYTE, UA_TYPES_BYTE, UA_TYPES_INT16, UA_TYPES_UINT16, UA_TYPES_INT32, UA_TYPES_UINT32,
    UA_TYPES_INT64, UA_TYPES_UINT64, UA_TYPES_FLOAT, UA_TYPES_DOUBLE, UA_TYPES_DATETIME, UA_TYPES_STRING};

static void write_mixed(UA_Server *server, unsigned i, bool make) {
    unsigned n = round_ + i;
    union { UA_Int64 whole; UA_Float single; UA_Double number; UA_String text; } v = {.whole = n};
    char text[40];
    switch(mixed_types[i % 13]) {
    case UA_TYPES_BOOLEAN: v.whole = n % 2; break;
    case UA_TYPES_UINT64: v.whole = -1 - (UA_Int64)n; break;
    case UA_TYPES_INT64: v.whole = -(UA_Int64)n * 1000003; break;
    case UA_TYPES_FLOAT: v.single = (UA_Float)n / 4; break;
    case UA_TYPES_DOUBLE: v.number = (UA_Double)n / 3; break;
    case UA_TYPES_DATETIME: v.whole = 133497000000000000LL + n; break;
    case UA_TYPES_STRING:
        snprintf(text, sizeof(text), "%.*s%u", (int)(n % 5), "\xc3\xbc\xc3\xbc", n);
        if(n % 5 == 1 || n % 5 == 3) snprintf(text, sizeof(text), "%u", n);
        v.text = UA_STRING(text);
        break;
    }
    UA_DataValue value;
    UA_DataValue_init(&value);
    UA_Variant_setScalar(&value.value, &v, &UA_TYPES[mixed_types[i % 13]]);
    if(make) add(server, UA_NODEID_NUMERIC(plant, 100000 + i), &value.value, UA_ACCESSLEVELMASK_READ);
    value.hasValue = true;
    value.hasStatus = n % 7 > 4;
    value.status = n % 7 == 5 ? UA_STATUSCODE_UNCERTAINLASTUSABLEVALUE : n % 7 == 6 ? UA_STATUSCODE_BADSENSORFAILURE : 0;
    value.hasSourceTimestamp = true;
    value.sourceTimestamp = 133497000000000000LL + n * 12345LL;
    value.hasSourcePicoseconds = i % 2;
    value.sourcePicoseconds = (UA_UInt16)(n % 10000);
    UA_Server_writeDataValue(server, UA_NODEID_NUMERIC(plant, 100000 + i), value);
}

static void add_array(UA_Server *server, char *name, void *values, size_t count, const UA_DataType *type,
                      UA_UInt32 rows) {
    UA_Variant array;
    UA_Variant_init(&array);
    UA_Variant_setArray(&array, values, count, type);
    UA_UInt32 dimensions[2] = {rows, rows ? (UA_UInt32)count / rows : 0}, any = 0;
    UA_VariableAttributes attributes = UA_VariableAttributes_default;
    if(rows) {
        array.arrayDimensions = dimensions;
        array.arrayDimensionsSize = 2;
    }
    attributes.value = array;
    attributes.dataType = type->typeId;
    attributes.valueRank = rows ? 2 : 1;
    attributes.arrayDimensions = rows ? dimensions : &any;
    attributes.arrayDimensionsSize = rows ? 2 : 1;
    attributes.accessLevel = UA_ACCESSLEVELMASK_READ | UA_ACCESSLEVELMASK_WRITE;
    UA_StatusCode result = UA_Server_addVariableNode(
        server, UA_NODEID_STRING(plant, name), UA_NODEID_NUMERIC(0, UA_NS0ID_OBJECTSFOLDER),
        UA_NODEID_NUMERIC(0, UA_NS0ID_ORGANIZES), UA_QUALIFIEDNAME(plant, name),
        UA_NODEID_NUMERIC(0, UA_NS0ID_BASEDATAVARIABLETYPE), attributes, NULL, NULL);
    if(result) fprintf(stderr, "%s: %s\n", name, UA_StatusCode_name(result));
}

/* Arrays that can be written, whole or by element. */
static void add_arrays(UA_Server *server) {
    UA_Double numbers[4] = {1.0, 2.0, 3.0, 4.0};
    UA_UInt16 words[3] = {1, 2, 3};
    UA_Boolean flags[3] = {true, false, true};
    UA_String texts[3] = {UA_STRING("a"), UA_STRING("\xc3\xbc"), UA_STRING("")};
    UA_Int32 matrix[6] = {1, 2, 3, 4, 5, 6};
    add_array(server, "Numbers", numbers, 4, &UA_TYPES[UA_TYPES_DOUBLE], 0);
    add_array(server, "Words", words, 3, &UA_TYPES[UA_TYPES_UINT16], 0);
    add_array(server, "Flags", flags, 3, &UA_TYPES[UA_TYPES_BOOLEAN], 0);
    add_array(server, "Texts", texts, 3, &UA_TYPES[UA_TYPES_STRING], 0);
    add_array(server, "Matrix", matrix, 6, &UA_TYPES[UA_TYPES_INT32], 2);
    add_array(server, "None", UA_EMPTY_ARRAY_SENTINEL, 0, &UA_TYPES[UA_TYPES_DOUBLE], 0);
}

static void add_oddities(UA_Server *server) {
    UA_Double numbers[4] = {1.0, 2.0, 3.0, 4.0};
    UA_Variant array;
    UA_Variant_init(&array);
    UA_Variant_setArray(&array, numbers, 4, &UA_TYPES[UA_TYPES_DOUBLE]);
    add(server, UA_NODEID_STRING(plant, "Array"), &array, UA_ACCESSLEVELMASK_READ);
    UA_Double number = 5.0;
    UA_Variant scalar;
    UA_Variant_init(&scalar);
    UA_Variant_setScalar(&scalar, &number, &UA_TYPES[UA_TYPES_DOUBLE]);
    add(server, UA_NODEID_STRING(plant, "Forbidden"), &scalar, UA_ACCESSLEVELMASK_WRITE);
    add(server, UA_NODEID_STRING(plant, "Empty"), NULL, UA_ACCESSLEVELMASK_READ);
    UA_Guid guid = {0x09087e75, 0x8e5e, 0x499b, {0x95, 0x4f, 0xf2, 0xa9, 0x60, 0x3d, 0xb2, 0x8a}};
    add(server, UA_NODEID_GUID(plant, guid), &scalar, UA_ACCESSLEVELMASK_READ);
    add(server, UA_NODEID_BYTESTRING(plant, "\x01\x02\x03"), &scalar, UA_ACCESSLEVELMASK_READ);
    UA_DateTime time = 133497000001234567LL;
    add_stamped(server, "Bad", 1.5, UA_STATUSCODE_BADSENSORFAILURE, time, 0);
    add_stamped(server, "Uncertain", 2.5, UA_STATUSCODE_UNCERTAINLASTUSABLEVALUE, time, 0);
    add_stamped(server, "Picoseconds", 3.5, 0, time, 9876);
    add_stamped(server, "Old", 4.5, 0, 116444735999999999LL, 0);
    add_stamped(server, "Ahead", 5.5, 0, UA_DateTime_now() + 2 * 3600 * UA_DATETIME_SEC, 0);
}

static void move(UA_Server *server, void *data) {
    (void)data;
    round_++;
    for(unsigned i = 1; i <= doubles; i++) {
        UA_Double number = i + round_ * 1e-3;
        UA_Variant value;
        UA_Variant_init(&value);
        UA_Variant_setScalar(&value, &number, &UA_TYPES[UA_TYPES_DOUBLE]);
        UA_Server_writeValue(server, UA_NODEID_NUMERIC(plant, i), value);
    }
    for(unsigned i = 0; i < mixed; i++) write_mixed(server, i, false);
}

/* Nodes that answer a write in their own way; what they hold is their own. */
static UA_Double clamped = 10.0, ignored = 20.0;

static UA_StatusCode read_own(UA_Server *server, const UA_NodeId *session, void *session_context, const UA_NodeId *node,
                              void *context, UA_Boolean with_time, const UA_NumericRange *range, UA_DataValue *value) {
    (void)server; (void)session; (void)session_context; (void)node; (void)with_time; (void)range;
    value->hasValue = true;
    return UA_Variant_setScalarCopy(&value->value, context, &UA_TYPES[UA_TYPES_DOUBLE]);
}

static UA_StatusCode write_own(UA_Server *server, const UA_NodeId *session, void *session_context,
                               const UA_NodeId *node, void *context, const UA_NumericRange *range,
                               const UA_DataValue *value) {
    (void)server; (void)session; (void)session_context; (void)node; (void)range;
    UA_Double wanted = *(UA_Double *)value->value.data;
    if(context != &clamped) return UA_STATUSCODE_GOOD; /* says yes and does nothing */
    if(wanted < -100.0) return UA_STATUSCODE_BADOUTOFRANGE;
    clamped = wanted > 50.0 ? 50.0 : wanted;
    return wanted > 50.0 ? UA_STATUSCODE_GOODCLAMPED : UA_STATUSCODE_GOOD;
}

/* Arrays that know no IndexRange: one takes an element for the whole, the other refuses. */
static UA_Double held[3] = {1.0, 2.0, 3.0};
static size_t held_count = 3;

static UA_StatusCode read_whole(UA_Server *server, const UA_NodeId *session, void *session_context,
                                const UA_NodeId *node, void *context, UA_Boolean with_time,
                                const UA_NumericRange *range, UA_DataValue *value) {
    (void)server; (void)session; (void)session_context; (void)node; (void)context; (void)with_time; (void)range;
    value->hasValue = true;
    return UA_Variant_setArrayCopy(&value->value, held, held_count, &UA_TYPES[UA_TYPES_DOUBLE]);
}

static UA_StatusCode write_whole(UA_Server *server, const UA_NodeId *session, void *session_context,
                                 const UA_NodeId *node, void *context, const UA_NumericRange *range,
                                 const UA_DataValue *value) {
    (void)server; (void)session; (void)session_context; (void)node;
    if(context && range) return UA_STATUSCODE_BADWRITENOTSUPPORTED;
    held_count = value->value.arrayLength < 3 ? value->value.arrayLength : 3;
    memcpy(held, value->value.data, held_count * sizeof(UA_Double));
    return UA_STATUSCODE_GOOD;
}

static UA_StatusCode add_numbers(UA_Server *server, const UA_NodeId *session, void *session_context,
                                 const UA_NodeId *method, void *method_context, const UA_NodeId *object,
                                 void *object_context, size_t inputs, const UA_Variant *input, size_t outputs,
                                 UA_Variant *output) {
    (void)server; (void)session; (void)session_context; (void)method; (void)method_context; (void)object;
    (void)object_context; (void)inputs; (void)outputs;
    UA_Double sum = *(UA_Double *)input[0].data;
    for(size_t i = 0; i < input[1].arrayLength; i++) sum += ((UA_Int16 *)input[1].data)[i];
    if(sum > 1000.0) return UA_STATUSCODE_BADOUTOFRANGE;
    return UA_Variant_setScalarCopy(output, &sum, &UA_TYPES[UA_TYPES_DOUBLE]);
}

static void add_answering(UA_Server *server) {
    UA_DataSource source = {read_own, write_own};
    UA_VariableAttributes attributes = UA_VariableAttributes_default;
    attributes.dataType = UA_TYPES[UA_TYPES_DOUBLE].typeId;
    attributes.accessLevel = UA_ACCESSLEVELMASK_READ | UA_ACCESSLEVELMASK_WRITE;
    char *names[2] = {"Clamped", "Ignored"};
    void *contexts[2] = {&clamped, &ignored};
    for(int i = 0; i < 2; i++)
        UA_Server_addDataSourceVariableNode(
            server, UA_NODEID_STRING(plant, names[i]), UA_NODEID_NUMERIC(0, UA_NS0ID_OBJECTSFOLDER),
            UA_NODEID_NUMERIC(0, UA_NS0ID_ORGANIZES), UA_QUALIFIEDNAME(plant, names[i]),
            UA_NODEID_NUMERIC(0, UA_NS0ID_BASEDATAVARIABLETYPE), attributes, source, contexts[i], NULL);
    UA_DataSource whole = {read_whole, write_whole};
    UA_UInt32 any = 0;
    attributes.valueRank = 1;
    attributes.arrayDimensions = &any;
    attributes.arrayDimensionsSize = 1;
    char *arrays[2] = {"Rangeless", "Whole"};
    for(int i = 0; i < 2; i++)
        UA_Server_addDataSourceVariableNode(
            server, UA_NODEID_STRING(plant, arrays[i]), UA_NODEID_NUMERIC(0, UA_NS0ID_OBJECTSFOLDER),
            UA_NODEID_NUMERIC(0, UA_NS0ID_ORGANIZES), UA_QUALIFIEDNAME(plant, arrays[i]),
            UA_NODEID_NUMERIC(0, UA_NS0ID_BASEDATAVARIABLETYPE), attributes, whole, i ? NULL : held, NULL);
    UA_Argument in[2], out;
    UA_Argument_init(&in[0]);
    in[0].name = UA_STRING("first");
    in[0].dataType = UA_TYPES[UA_TYPES_DOUBLE].typeId;
    in[0].valueRank = UA_VALUERANK_SCALAR;
    out = in[0];
    out.name = UA_STRING("sum");
    in[1] = in[0];
    in[1].name = UA_STRING("others");
    in[1].dataType = UA_TYPES[UA_TYPES_INT16].typeId;
    in[1].valueRank = UA_VALUERANK_ONE_DIMENSION;
    UA_MethodAttributes method = UA_MethodAttributes_default;
    method.executable = method.userExecutable = true;
    UA_Server_addMethodNode(server, UA_NODEID_STRING(plant, "Add"), UA_NODEID_NUMERIC(0, UA_NS0ID_OBJECTSFOLDER),
                            UA_NODEID_NUMERIC(0, UA_NS0ID_HASCOMPONENT), UA_QUALIFIEDNAME(plant, "Add"), method,
                            add_numbers, 2, in, 1, &out, NULL, NULL);
}

static UA_StatusCode configure(UA_ServerConfig *config, UA_UInt16 port, int argc, char **argv) {
    UA_ByteString certificate = load(argument(argc, argv, "certificate")), key = load(argument(argc, argv, "key"));
    UA_ByteString trusted = load(argument(argc, argv, "trust"));
    UA_StatusCode result = certificate.length
        ? UA_ServerConfig_setDefaultWithSecurityPolicies(config, port, &certificate, &key, &trusted,
                                                         trusted.length ? 1 : 0, NULL, 0, NULL, 0)
        : UA_ServerConfig_setMinimal(config, port, NULL);
    const char *uri = argument(argc, argv, "uri");
    if(uri) {
        UA_String_clear(&config->applicationDescription.applicationUri);
        config->applicationDescription.applicationUri = UA_STRING_ALLOC(uri);
        for(size_t i = 0; i < config->endpointsSize; i++) {
            UA_String_clear(&config->endpoints[i].server.applicationUri);
            config->endpoints[i].server.applicationUri = UA_STRING_ALLOC(uri);
        }
    }
    if(argument(argc, argv, "limit")) config->maxNodesPerRead = (UA_UInt32)atoi(argument(argc, argv, "limit"));
    if(argument(argc, argv, "sessions")) config->maxSessions = (UA_UInt16)atoi(argument(argc, argv, "sessions"));
    if(argument(argc, argv, "user")) {
        UA_UsernamePasswordLogin login = {UA_STRING_ALLOC(argument(argc, argv, "user")),
                                          UA_STRING_ALLOC(argument(argc, argv, "password"))};
        UA_String policy = config->securityPolicies[config->securityPoliciesSize - 1].policyUri;
        config->accessControl.clear(&config->accessControl);
        result |= UA_AccessControl_default(config, false, &policy, 1, &login);
    }
    return result;
}

int main(int argc, char **argv) {
    if(argc < 2) return 2;
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    UA_UInt16 port = (UA_UInt16)atoi(argv[1]);
    UA_ServerConfig config;
    memset(&config, 0, sizeof(config));
    UA_Logger logger = UA_Log_Stdout_withLevel(getenv("VERBOSE") ? UA_LOGLEVEL_INFO : UA_LOGLEVEL_FATAL);
    config.logging = &logger;
    if(configure(&config, port, argc, argv)) return 1;
    plant = argument(argc, argv, "swap") ? 3 : 2;
    define_drive();
    config.customDataTypes = &drive_type_array;
    UA_Server *server = UA_Server_newWithConfig(&config);
    if(argument(argc, argv, "swap")) UA_Server_addNamespace(server, "urn:cpc:test:other");
    if(UA_Server_addNamespace(server, "urn:cpc:test:plant") != plant) return 1;
    doubles = argument(argc, argv, "doubles") ? (unsigned)atoi(argument(argc, argv, "doubles")) : 0;
    for(unsigned i = 1; i <= doubles; i++) {
        UA_Double number = i + 0.25;
        UA_String text = UA_STRING("another type");
        if(argument(argc, argv, "without") && i == (unsigned)atoi(argument(argc, argv, "without"))) continue;
        UA_Boolean is_text = argument(argc, argv, "text") && i == (unsigned)atoi(argument(argc, argv, "text"));
        UA_Variant value;
        UA_Variant_init(&value);
        if(is_text) UA_Variant_setScalar(&value, &text, &UA_TYPES[UA_TYPES_STRING]);
        else UA_Variant_setScalar(&value, &number, &UA_TYPES[UA_TYPES_DOUBLE]);
        add(server, UA_NODEID_NUMERIC(plant, i), &value, UA_ACCESSLEVELMASK_READ);
    }
    add_types(server);
    add_drive(server);
    add_analog(server, "Analog", argument(argc, argv, "unit") ? (char*)argument(argc, argv, "unit") : "\xc2\xb0""C",
               4408652, -20.0, 120.0);
    add_analog(server, "Coded", "", 4408652, 0.0, 1.0);
    add_arrays(server);
    add_oddities(server);
    add_answering(server);
    mixed = argument(argc, argv, "mixed") ? (unsigned)atoi(argument(argc, argv, "mixed")) : 0;
    for(unsigned i = 0; i < mixed; i++) write_mixed(server, i, true);
    if(argument(argc, argv, "moving"))
        UA_Server_addRepeatedCallback(server, move, NULL, atof(argument(argc, argv, "moving")), NULL);
    if(UA_Server_run_startup(server)) return 1;
    printf("listening %d\n", port);
    fflush(stdout);
    while(running) UA_Server_run_iterate(server, true);
    UA_Server_run_shutdown(server);
    UA_Server_delete(server);
    return 0;
}
