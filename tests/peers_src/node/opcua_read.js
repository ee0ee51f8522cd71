// Reads nodes of an OPC UA server and prints what node-opcua makes of them, one JSON object per line.
// node opcua_read.js URL NODEID...
"use strict";
const { OPCUAClient, AttributeIds, DataType } = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const fs = require("fs"), os = require("os"), path = require("path");

function plain(variant) {
  const value = variant.value;
  if (value === null || value === undefined) return null;
  if (variant.arrayType !== 0 && variant.dataType !== DataType.ExtensionObject) return Array.from(value, String);
  switch (variant.dataType) {
    case DataType.Int64:
      return ((BigInt(value[0]) << 32n) | BigInt(value[1] >>> 0)).toString();
    case DataType.UInt64:
      return ((BigInt(value[0] >>> 0) << 32n) | BigInt(value[1] >>> 0)).toString();
    case DataType.ByteString:
      return Buffer.from(value).toString("hex");
    case DataType.ExtensionObject:
      return variant.arrayType === 0 ? value.toJSON() : Array.from(value, (one) => one.toJSON());
    case DataType.DateTime:
      return value.toISOString();
    case DataType.LocalizedText:
      return value.text;
    case DataType.QualifiedName:
      return `${value.namespaceIndex}:${value.name}`;
    case DataType.StatusCode:
      return value.value;
    case DataType.Boolean:
    case DataType.Float:
    case DataType.Double:
      return value;
    default:
      return typeof value === "number" ? value : String(value);
  }
}

async function main() {
  const [url, ...nodes] = process.argv.slice(2);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "opcua-read-"));
  process.on("exit", () => fs.rmSync(folder, { recursive: true, force: true }));
  const client = OPCUAClient.create({
    endpointMustExist: false, connectionStrategy: { maxRetry: 2 },
    clientCertificateManager: new OPCUACertificateManager({ rootFolder: path.join(folder, "pki") }),
  });
  await client.connect(url);
  const session = await client.createSession();
  const found = await session.read(
    nodes.map((nodeId) => ({ nodeId, attributeId: AttributeIds.Value })), 0);
  found.forEach((value, i) => console.log(JSON.stringify({
    node: nodes[i], status: value.statusCode.value, type: DataType[value.value ? value.value.dataType : 0],
    value: value.value ? plain(value.value) : null,
    source: value.sourceTimestamp ? value.sourceTimestamp.toISOString() : null,
    picoseconds: value.sourcePicoseconds || 0,
  })));
  await session.close();
  await client.disconnect();
}

main().catch((error) => { console.error(error); process.exit(1); });
