'use strict';
// An HTTP server that push subscriptions push to.

const {once, EventEmitter} = require('node:events');
const http = require('node:http');
const {PATIENCE_MS} = require('./world');

class Receiver extends EventEmitter {
  /** All requests so far: `path`, `headers` and `body`. */
  pushes = [];
  #server = http.createServer((request, response) => this.#take(request, response));
  #answer;

  constructor(answer) {
    super();
    this.#answer = answer;
  }

  /** One that stops with the test. `answer` gives the status of a request. */
  static async start(context, answer = () => 200) {
    const receiver = new Receiver(answer);
    receiver.#server.listen(0, '127.0.0.1');
    await once(receiver.#server, 'listening');
    context.after(() => {
      receiver.#server.close();
      receiver.#server.closeAllConnections();
    });
    return receiver;
  }

  url(path = '/') {
    return `http://127.0.0.1:${this.#server.address().port}${path}`;
  }

  /** The requests, when there are as many. */
  async waitFor(count) {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    while (this.pushes.length < count) {
      await once(this, 'push', {signal});
    }
    return this.pushes;
  }

  #take(request, response) {
    const chunks = [];
    request.on('data', chunk => chunks.push(chunk));
    request.on('end', () => {
      const push = {path: request.url, headers: request.headers, body: Buffer.concat(chunks)};
      response.statusCode = this.#answer(push);
      response.end();
      this.pushes.push(push);
      this.emit('push');
    });
  }
}

/** The data of a wrapped message. */
const dataOf = push => Buffer.from(JSON.parse(push.body).message.data, 'base64').toString();

module.exports = {Receiver, dataOf};
