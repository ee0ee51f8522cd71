// A Modbus TCP server on modbus-serial: `node modbus_server.js PORT`, says "listening on PORT".
// Holding register a holds 2a+1, input register a holds 50000-a, coil a is set where a is odd; 0 to 499 exist.
// On SIGUSR2 it says "memory WRITES REGISTERS COILS": requests that wrote, all registers in hexadecimal, all coils.
"use strict";

const { ServerTCP } = require("modbus-serial");

const port = Number(process.argv[2]);
const written = new Map();
const coils = new Map();
let writes = 0;
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

function put(table, address, values) {
  answer(address + values.length - 1, 0);
  writes += 1;
  values.forEach((value, place) => table.set(address + place, value));
}

const vector = {
  getHoldingRegister: (address) => answer(address, written.get(address) ?? (2 * address + 1) & 0xffff),
  getInputRegister: (address) => answer(address, (50000 - address) & 0xffff),
  getCoil: (address) => answer(address, coils.get(address) ?? address % 2 === 1),
  getDiscreteInput: (address) => answer(address, address % 4 === 0),
  setRegister: (address, value) => {
    put(written, address, [value]);
  },
  setRegisterArray: (address, values) => {
    put(written, address, values);
  },
  setCoil: (address, value) => {
    put(coils, address, [value]);
  },
  setCoilArray: (address, values) => {
    put(coils, address, values);
  },
};

const server = new ServerTCP(vector, { host: "127.0.0.1", port, unitID: 1, debug: false });
server.on("initialized", () => console.log(`listening on ${port}`));
server.on("socketError", () => {});
server.on("serverError", (error) => {
  console.error(error.message);
  process.exit(1);
});

process.on("SIGUSR2", () => {
  const all = Array.from({ length: 500 }, (_, address) => address);
  const words = all.map((address) => vector.getHoldingRegister(address).toString(16).padStart(4, "0"));
  const bits = all.map((address) => (vector.getCoil(address) ? "1" : "0"));
  console.log(`memory ${writes} ${words.join("")} ${bits.join("")}`);
});
