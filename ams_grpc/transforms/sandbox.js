// Evaluated once in each new JavaScript context. Gives a function (name, code) that gives a function
// (step, text) for the three steps of a message: "take" reads its text, "run" calls the user's
// function, and "give" gives what came of it as text. So the time that text takes, which is long for
// long messages, need not count as the function's.
//
// A function must find nothing of what it did with the message before. So its code runs anew for each
// message, inside a function, and all that would outlive that is frozen: the built-in objects, and the
// globals. Globals that it adds (an assignment that forgot its `let`) are removed after each message.
(function () {
  "use strict";
  const { parse, stringify } = JSON;
  const { ownKeys, getPrototypeOf, getOwnPropertyDescriptor, defineProperty, deleteProperty } = Reflect;
  const { freeze, keys } = Object;
  const { isArray } = Array;
  const sourceOf = Function.prototype.call.bind(Function.prototype.toString);
  const { InternalError } = globalThis; // tells the sandbox to throw the context away
  const isObject = (value) => (typeof value === "object" && value !== null) || typeof value === "function";

  // What is there beyond the language.
  for (const name of ["performance", "DOMException", "btoa", "atob", "queueMicrotask"]) {
    delete globalThis[name];
  }
  // Settings of the context, which freezing does not reach. And who prepares stack traces gets at the
  // functions of this file.
  for (const name of ["prepareStackTrace", "stackTraceLimit"]) {
    if (!deleteProperty(Error, name)) throw new InternalError(`Error.${name} cannot be removed`);
  }

  // An object that inherits a frozen property could not be given one of that name by assignment, as
  // in `error.name = "Mine"`. A getter with a setter allows it.
  function allowOverriding(prototype) {
    for (const key of ownKeys(prototype)) {
      const { value, writable, configurable, enumerable } = getOwnPropertyDescriptor(prototype, key);
      if (typeof key !== "string" || !writable || !configurable) continue;
      const access = {
        get() {
          return value;
        },
        set(other) {
          if (this === prototype) throw new TypeError(`${key} is read-only`);
          defineProperty(this, key, { value: other, writable: true, enumerable: true, configurable: true });
        },
        enumerable,
        configurable,
      };
      freeze(access.get);
      freeze(access.set);
      defineProperty(prototype, key, access);
    }
  }

  // Everything that can be reached, also what only syntax leads to.
  const queue = ownKeys(globalThis).map((key) => globalThis[key]);
  queue.push(
    function* () {}, async function () {}, async function* () {}, (function* () {})(),
    (async function* () {})(), [].values(), "".matchAll(/./g), ""[Symbol.iterator](), new Map().keys(),
    new Set().keys(), [].values().map(isObject), Iterator.from({ next() {} }),
    getOwnPropertyDescriptor((function () { return arguments; })(), "callee").get,
  );
  const found = new Set([globalThis]);
  while (queue.length > 0) {
    const each = queue.pop();
    if (!isObject(each) || found.has(each)) continue;
    found.add(each);
    queue.push(getPrototypeOf(each));
    for (const key of ownKeys(each)) {
      const { value, get, set } = getOwnPropertyDescriptor(each, key);
      queue.push(value, get, set);
    }
  }
  found.delete(globalThis);
  for (const each of found) {
    if (Object.hasOwn(each, "constructor")) allowOverriding(each);
    freeze(each);
  }
  const globals = new Set(ownKeys(globalThis));
  for (const key of globals) {
    const { writable } = getOwnPropertyDescriptor(globalThis, key);
    defineProperty(globalThis, key, writable ? { writable: false, configurable: false } : { configurable: false });
  }
  const known = globals.size;
  const isKnown = Set.prototype.has.bind(globals);
  const above = getPrototypeOf(globalThis);

  function removeNewGlobals() {
    if (getPrototypeOf(globalThis) !== above) throw new InternalError("the global object was changed");
    const present = ownKeys(globalThis);
    if (present.length === known) return;
    for (const key of present) {
      if (!isKnown(key) && !deleteProperty(globalThis, key)) throw new InternalError("a global cannot be removed");
    }
  }

  function checked(result) {
    if (result === null) return null;
    if (!isObject(result)) throw new TypeError("it returned neither null nor an object");
    const { data, attributes } = result;
    if (typeof data !== "string") throw new TypeError("it returned an object whose data is no string");
    const pairs = [];
    if (attributes !== undefined) {
      if (!isObject(attributes) || isArray(attributes)) throw new TypeError("it returned attributes that are no object");
      for (const key of keys(attributes)) {
        const value = attributes[key];
        if (typeof value !== "string") throw new TypeError("it returned an attribute that is no string");
        pairs[pairs.length] = [key, value];
      }
    }
    return [data, pairs];
  }

  return function (name, code) {
    const body = `${code}\n;return typeof ${name} === "function" ? ${name} : undefined;`;
    const run = new Function(body);
    // The engine does not read the body by itself: code may close the function, go on outside of it,
    // where things last, and end with another function. That one is not all of the text.
    if (typeof run !== "function" || sourceOf(run) !== `function anonymous(\n) {\n${body}\n}`) {
      throw new SyntaxError("the code does not end where it began");
    }
    freeze(run.prototype);
    freeze(run); // which the code can reach as arguments.callee
    if (run() === undefined) throw new TypeError(`the code defines no function ${name}`);
    removeNewGlobals();
    let taken = null;
    let result = null;
    return function (step, text) {
      if (step === "take") {
        taken = parse(text);
        return;
      }
      if (step === "give") {
        const given = stringify(result);
        result = null;
        return given;
      }
      const { message, metadata } = taken;
      taken = null;
      try {
        const transform = run();
        result = checked(transform(message, metadata));
      } finally {
        removeNewGlobals();
      }
    };
  };
})()
