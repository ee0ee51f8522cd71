// An OPC UA server on node-opcua for tests: nodes of many types whose status and time change, with picoseconds.
// node opcua_server.js PORT FOLDER [MOVING_MS [MIXED]]; prints "listening PORT", then serves until SIGTERM. FOLDER gets its certificates.
"use strict";
const { OPCUAServer } = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { MessageSecurityMode, SecurityPolicy } = require("node-opcua-secure-channel");
const { DataType, Variant, VariantArrayType } = require("node-opcua-variant");
const { DataValue } = require("node-opcua-data-value");
const { StatusCodes } = require("node-opcua-status-code");
const path = require("path");

const STATUS = [StatusCodes.Good, StatusCodes.UncertainLastUsableValue, StatusCodes.BadSensorFailure];
const MADE = {
  Boolean: (n) => n % 2 === 0, SByte: (n) => (n % 256) - 128, Byte: (n) => n % 256, Int16: (n) => n - 500,
  UInt16: (n) => n, Int32: (n) => -n * 1000, UInt32: (n) => n * 1000, Int64: (n) => (n ? [0xffffffff, -n >>> 0] : [0, 0]), UInt64: (n) => [n, n],
  Float: (n) => n / 4, Double: (n) => n / 3, String: (n) => "n".repeat(n % 7) + n,
  DateTime: (n) => new Date(1700000000000 + n), ByteString: (n) => Buffer.from([n % 256, 255]),
  LocalizedText: (n) => ({ text: `Text ${n}`, locale: "en" }),
  Guid: (n) => `09087E75-8E5E-499B-954F-${n.toString(16).toUpperCase().padStart(12, "0")}`,
};

// A source time finer than JavaScript's milliseconds: `picoseconds` since the millisecond, 0 to 1e9 - 1.
function set(variable, value, statusCode, sourceTimestamp, picoseconds) {
  variable._internal_set_dataValue(new DataValue({
    value: new Variant(value), statusCode, sourceTimestamp, sourcePicoseconds: picoseconds,
    serverTimestamp: new Date(), serverPicoseconds: 0,
  }));
}

const picosecondsOf = (n) => (n * 123456789) % 1e9;

// Arrays that can be written, and an AnalogItem with EURange -100 to 300 beside the same number without one, of which every
// change is seen.
function addOthers(plant, device) {
  const arrays = {
    Numbers: [DataType.Double, Float64Array.from([1, 2, 3, 4])], Words: [DataType.UInt16, Uint16Array.from([1, 2, 3])],
    Texts: [DataType.String, ["a", "ü", ""]], Flags: [DataType.Boolean, [true, false, true]],
    Matrix: [DataType.Int32, Int32Array.from([1, 2, 3, 4, 5, 6]), [2, 3]],
  };
  for (const [name, [dataType, value, dimensions]] of Object.entries(arrays))
    plant.addVariable({
      componentOf: device, nodeId: `s=${name}`, browseName: name, dataType: DataType[dataType], valueRank: dimensions ? 2 : 1,
      arrayDimensions: dimensions || [0],
      value: { dataType, arrayType: dimensions ? VariantArrayType.Matrix : VariantArrayType.Array, dimensions, value },
    });
  const analog = plant.addAnalogDataItem({
    componentOf: device, nodeId: "s=Analog", browseName: "Analog", dataType: "Double", minimumSamplingInterval: 10,
    engineeringUnitsRange: { low: -100, high: 300 },
  });
  const bare = plant.addVariable({
    componentOf: device, nodeId: "s=Bare", browseName: "Bare", dataType: "Double", minimumSamplingInterval: 0,
  });
  return (n) => [analog, bare].forEach((variable) => variable.setValueFromSource({ dataType: DataType.Double, value: (n * 7) % 200 }));
}

async function main() {
  const [port, folder] = process.argv.slice(2);
  const server = new OPCUAServer({
    port: Number(port), host: "127.0.0.1", hostname: "127.0.0.1", resourcePath: "/UA/test",
    securityPolicies: [SecurityPolicy.None], securityModes: [MessageSecurityMode.None],
    serverCertificateManager: new OPCUACertificateManager({ rootFolder: path.join(folder, "pki") }),
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const plant = space.registerNamespace("urn:cpc:test:plant");
  const device = plant.addObject({ organizedBy: space.rootFolder.objects, browseName: "Plant" });
  let count = 0;
  const variables = Object.keys(MADE).map((name, i) => {
    const variable = plant.addVariable({
      componentOf: device, nodeId: `s=${name}`, browseName: name, dataType: name, minimumSamplingInterval: 100,
    });
    const write = () => {
      const time = new Date(1700000000000 + count);
      const status = STATUS[(count + i) % 7 < 5 ? 0 : (count + i) % 7 - 4];
      const value = { dataType: DataType[name], arrayType: VariantArrayType.Scalar, value: MADE[name](count % 1000) };
      set(variable, value, status, time, picosecondsOf(count + i));
    };
    write();
    return write;
  });
  // Mixed nodes, i=100000 and on: the types above in turn, as many as the third argument says.
  const names = Object.keys(MADE);
  for (let i = 0; i < Number(process.argv[5] || 0); i++) {
    const name = names[i % names.length];
    const variable = plant.addVariable({
      componentOf: device, nodeId: `i=${100000 + i}`, browseName: `M${i}`, dataType: name, minimumSamplingInterval: 100,
    });
    const write = () => {
      const status = STATUS[(count + i) % 7 < 5 ? 0 : (count + i) % 7 - 4];
      const value = { dataType: DataType[name], arrayType: VariantArrayType.Scalar, value: MADE[name]((count + i) % 1000 % (name === "SByte" || name === "Byte" ? 100 : 1000)) };
      set(variable, value, status, new Date(1700000000000 + count + i), i % 2 ? picosecondsOf(count + i) : 0);
    };
    write();
    variables.push(write);
  }
  const other = addOthers(plant, device);
  other(0);
  variables.push(() => other(count));
  const moving = process.argv[4] ? Number(process.argv[4]) : 0;
  if (moving) setInterval(() => { count += 1; variables.forEach((write) => write()); }, moving);
  await server.start();
  console.log(`listening ${port}`);
  process.on("SIGTERM", () => server.shutdown(0).then(() => process.exit(0)));
}

main().catch((error) => { console.error(error); process.exit(1); });
