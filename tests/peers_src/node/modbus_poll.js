// Reads from a Modbus device with modbus-serial and prints the values as JSON:
// `node modbus_poll.js tcp PORT UNIT FUNCTION ADDRESS COUNT`, with rtu or ascii and a device path instead of the port.
"use strict";

const ModbusRTU = require("modbus-serial");

const [mode, target, unit, code, address, count] = process.argv.slice(2);
const line = { baudRate: 19200, parity: "none", dataBits: 8, stopBits: 1 };
const client = new ModbusRTU();

async function connect() {
  if (mode === "tcp") {
    await client.connectTCP("127.0.0.1", { port: Number(target) });
  } else if (mode === "rtu") {
    await client.connectRTUBuffered(target, line);
  } else {
    await client.connectAsciiSerial(target, line);
  }
}

async function main() {
  await connect();
  client.setID(Number(unit));
  client.setTimeout(3000);
  const names = { 1: "readCoils", 2: "readDiscreteInputs", 3: "readHoldingRegisters", 4: "readInputRegisters" };
  const answer = await client[names[code]](Number(address), Number(count));
  process.stdout.write(`${JSON.stringify(answer.data.slice(0, Number(count)).map(Number))}\n`);
}

main().then(
  () => process.exit(0),
  (error) => {
    process.stdout.write(`failed: ${error.message}\n`);
    process.exit(1);
  },
);
