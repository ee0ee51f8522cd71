// An OPC UA server on node-opcua for tests: nodes of many types whose status and time change, with picoseconds.
// node opcua_server.js PORT FOLDER [MOVING_MS [MIXED]]; prints "listening PORT", then serves until SIGTERM. FOLDER gets its certificates.
"use strict";
const { OPCUAServer } = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { MessageSecurityMode, SecurityPolicy } = require("node-opcua-secure-channel");
const { DataType, VariantArrayType } = require("node-opcua-variant");
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
      variable.setValueFromSource(value, status, time);
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
      variable.setValueFromSource(value, status, new Date(1700000000000 + count + i));
    };
    write();
    variables.push(write);
  }
  const moving = process.argv[4] ? Number(process.argv[4]) : 0;
  if (moving) setInterval(() => { count += 1; variables.forEach((write) => write()); }, moving);
  await server.start();
  console.log(`listening ${port}`);
  process.on("SIGTERM", () => server.shutdown(0).then(() => process.exit(0)));
}

main().catch((error) => { console.error(error); process.exit(1); });
