// An OPC UA server on node-opcua with companion specifications (DI, IA and Robotics) and a robot made from their types.
// node opcua_nodeset.js PORT FOLDER; prints "listening PORT", then serves until SIGTERM. FOLDER gets its certificates.
"use strict";
const { OPCUAServer } = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { MessageSecurityMode, SecurityPolicy } = require("node-opcua-secure-channel");
const { nodesets } = require("node-opcua-nodesets");
const { DataType, VariantArrayType } = require("node-opcua-variant");
const { NodeClass } = require("node-opcua-data-model");
const path = require("path");

const VALUES = { Boolean: true, Double: 1.5, Float: 2.5, String: "text", Int32: -3, UInt32: 3, UInt16: 2, Int16: -2,
  Byte: 1, DateTime: new Date(1700000000000), LocalizedText: { text: "Text" }, Duration: 10 };

function basic(variable) {
  let type = variable.addressSpace.findDataType(variable.dataType);
  while (type && type.nodeId.namespace === 0 ? type.nodeId.value > 25 : type) type = type.subtypeOfObj;
  const name = type ? DataType[type.nodeId.value] : undefined;
  return type && type.browseName.name === "Enumeration" ? "Int32" : name;
}

function fill(node, seen) {
  for (const child of node.getAggregates()) {
    if (seen.has(child.nodeId.toString())) continue;
    seen.add(child.nodeId.toString());
    if (child.nodeClass === NodeClass.Variable && VALUES[basic(child)] !== undefined && child.valueRank === -1) {
      const now = child.readValue();
      if (!now.value || now.value.dataType === DataType.Null || now.value.value === null)
        child.setValueFromSource({ dataType: DataType[basic(child)], arrayType: VariantArrayType.Scalar,
                                   value: VALUES[basic(child)] });
    }
    fill(child, seen);
  }
}

async function main() {
  const [port, folder] = process.argv.slice(2);
  const server = new OPCUAServer({
    port: Number(port), host: "127.0.0.1", hostname: "127.0.0.1",
    nodeset_filename: [nodesets.standard, nodesets.di, nodesets.ia, nodesets.robotics],
    securityPolicies: [SecurityPolicy.None], securityModes: [MessageSecurityMode.None],
    serverCertificateManager: new OPCUACertificateManager({ rootFolder: path.join(folder, "pki") }),
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const robotics = space.getNamespaceIndex("http://opcfoundation.org/UA/Robotics/");
  const type = space.findObjectType("MotionDeviceSystemType", robotics);
  const robot = type.instantiate({ browseName: "Robot", organizedBy: space.rootFolder.objects });
  const made = (name, typeName, parent) => space.findObjectType(typeName, robotics).instantiate({
    browseName: name, componentOf: parent, optionals: ["SpeedOverride", "InControl", "OnPath", "ParameterSet.SpeedOverride"],
  });
  const arm = made("Arm", "MotionDeviceType", robot.motionDevices);
  for (let i = 1; i <= 6; i++) made(`Axis ${i}`, "AxisType", arm.axes);
  made("Controller", "ControllerType", robot.controllers);
  made("Safety", "SafetyStateType", robot.safetyStates);
  fill(robot, new Set());
  await server.start();
  console.log(`listening ${port} ${robot.nodeId.toString()}`);
  process.on("SIGTERM", () => server.shutdown(0).then(() => process.exit(0)));
}

main().catch((error) => { console.error(error); process.exit(1); });
