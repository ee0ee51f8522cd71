// Walks an address space along its hierarchical references and prints every one, as `PARENT CHILD` in one line each.
// node opcua_tree.js URL ROOT
"use strict";
const { OPCUAClient, BrowseDirection, NodeClassMask } = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const fs = require("fs"), os = require("os"), path = require("path");

async function main() {
  const [url, root] = process.argv.slice(2);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "opcua-tree-"));
  process.on("exit", () => fs.rmSync(folder, { recursive: true, force: true }));
  const client = OPCUAClient.create({
    endpointMustExist: false, connectionStrategy: { maxRetry: 2 },
    clientCertificateManager: new OPCUACertificateManager({ rootFolder: path.join(folder, "pki") }),
  });
  await client.connect(url);
  const session = await client.createSession();
  const seen = new Set([root]);
  let level = [root];
  const lines = [];
  while (level.length) {
    const following = [];
    for (let at = 0; at < level.length; at += 50) {
      const part = level.slice(at, at + 50);
      const results = await session.browse(part.map((nodeId) => ({
        nodeId, browseDirection: BrowseDirection.Forward, referenceTypeId: "i=33", includeSubtypes: true,
        nodeClassMask: 0, resultMask: 0x3f,
      })));
      for (let i = 0; i < part.length; i++) {
        let references = results[i].references || [];
        let point = results[i].continuationPoint;
        while (point && point.length) {
          const more = await session.browseNext(point, false);
          references = references.concat(more.references || []);
          point = more.continuationPoint;
        }
        for (const reference of references) {
          const child = reference.nodeId.toString();
          lines.push(`${part[i]}\t${child}`);
          if (!seen.has(child)) { seen.add(child); following.push(child); }
        }
      }
    }
    level = following;
  }
  process.stdout.write(lines.join("\n") + "\n");
  await session.close();
  await client.disconnect();
}

main().catch((error) => { console.error(error); process.exit(1); });
