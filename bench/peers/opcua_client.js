// Reads ns=2;i=1..COUNT with node-opcua's client: node opcua_client.js URL COUNT CHUNK FOLDER [CERTIFICATE KEY].
// For each number on standard input it makes so many whole reads and prints seconds on the wall and on the processor.
"use strict";
const { OPCUAClient, AttributeIds, MessageSecurityMode, SecurityPolicy } = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const path = require("path");
const readline = require("readline");

async function main() {
  const [url, count, chunk, folder, certificateFile, privateKeyFile] = process.argv.slice(2);
  const manager = new OPCUACertificateManager({
    rootFolder: path.join(folder, "pki"), automaticallyAcceptUnknownCertificate: true });
  await manager.initialize();
  const secured = certificateFile ? {
    securityMode: MessageSecurityMode.SignAndEncrypt, securityPolicy: SecurityPolicy.Basic256Sha256,
    certificateFile, privateKeyFile, applicationUri: "urn:cpc:test:client" } : {};
  const client = OPCUAClient.create({
    endpointMustExist: false, connectionStrategy: { maxRetry: 1 }, clientCertificateManager: manager, ...secured });
  await client.connect(url);
  const session = await client.createSession();
  const chunks = [];
  for (let at = 0; at < Number(count); at += Number(chunk)) {
    const nodes = [];
    for (let i = at; i < Math.min(at + Number(chunk), Number(count)); i++) {
      nodes.push({ nodeId: `ns=2;i=${i + 1}`, attributeId: AttributeIds.Value });
    }
    chunks.push(nodes);
  }
  console.log("ready");
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const wall = process.hrtime.bigint(), cpu = process.cpuUsage();
    for (let i = 0; i < Number(line); i++) for (const nodes of chunks) await session.read(nodes, 0);
    const spent = process.cpuUsage(cpu);
    console.log(`${Number(process.hrtime.bigint() - wall) / 1e9} ${(spent.user + spent.system) / 1e6}`);
  }
  await session.close();
  await client.disconnect();
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
