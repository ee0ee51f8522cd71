// A secured OPC UA server on node-opcua for tests, whose certificate file (PEM) may hold a chain, which it sends along.
// node opcua_chain_server.js PORT FOLDER CERTIFICATE KEY URI; prints "listening PORT", then serves until SIGTERM.
// Trusts every client and every user's certificate that is not malformed. FOLDER gets its folders of certificates.
"use strict";
const { OPCUAServer } = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { MessageSecurityMode, SecurityPolicy } = require("node-opcua-secure-channel");
const path = require("path");

async function main() {
  const [port, folder, certificateFile, privateKeyFile, applicationUri] = process.argv.slice(2);
  const lenient = (name) => new OPCUACertificateManager({
    rootFolder: path.join(folder, name), automaticallyAcceptUnknownCertificate: true,
  });
  const server = new OPCUAServer({
    port: Number(port), host: "127.0.0.1", hostname: "127.0.0.1", certificateFile, privateKeyFile, serverInfo: { applicationUri },
    securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes256_Sha256_RsaPss],
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    serverCertificateManager: lenient("pki"), userCertificateManager: lenient("users"),
  });
  await server.initialize();
  await server.start();
  console.log(`listening ${port}`);
  process.on("SIGTERM", () => server.shutdown(0).then(() => process.exit(0)));
}

main().catch((error) => { console.error(error); process.exit(1); });
