// A Modbus TCP server on modbus-serial: `node modbus_server.js PORT`, says "listening on PORT".
// Holding register a holds 2a+1, input register a holds 50000-a, coil a is set where a is odd; 0 to 499 exist.
"use strict";

const { ServerTCP } = require("modbus-serial");

const port = Number(process.argv[2]);
const written = new Map();
const inside = (address) => address < 500;

function missing() {
  const error = new Error("illegal data address");
  error.modbusErrorCode = 2;
  return error;
}

function answer(address, value) {
  if (!inside(address)) {
    throw missing();
  }
  return value;
}

const vector = {
  getHoldingRegister: (address) => answer(address, written.get(address) ?? (2 * address + 1) & 0xffff),
  getInputRegister: (address) => answer(address, (50000 - address) & 0xffff),
  getCoil: (address) => answer(address, address % 2 === 1),
  getDiscreteInput: (address) => answer(address, address % 4 === 0),
  setRegister: (address, value) => {
    written.set(answer(address, address), value);
  },
  setCoil: () => {},
};

const server = new ServerTCP(vector, { host: "127.0.0.1", port, unitID: 1, debug: false });
server.on("initialized", () => console.log(`listening on ${port}`));
server.on("socketError", () => {});
server.on("serverError", (error) => {
  console.error(error.message);
  process.exit(1);
});
