'use strict';
// Exports: a subscription whose messages are written to files.

const assert = require('node:assert/strict');
const {randomBytes} = require('node:crypto');
const fs = require('node:fs/promises');
const path = require('node:path');
const {CODES, codeOf, count, eventually, publish, receive, shop, spec} = require('../world');

/** The name of a new bucket, and its folder, which is not there yet. */
function newBucket() {
  const bucket = `archive-${randomBytes(4).toString('hex')}`;
  return {bucket, folder: path.join(process.env.TEST_BUCKETS, bucket)};
}

/** The complete objects of a bucket by their names, which may have slashes. */
async function objects(folder) {
  const entries = await fs.readdir(folder, {withFileTypes: true, recursive: true});
  const files = entries
    .filter(entry => entry.isFile())
    .map(entry => path.relative(folder, path.join(entry.parentPath ?? entry.path, entry.name)))
    .filter(name => !name.split(path.sep).includes('.incomplete'));
  const read = async name => [name, await fs.readFile(path.join(folder, name), 'utf8')];
  return Object.fromEntries(await Promise.all(files.map(read)));
}

const exporting = (bucket, more = {}) => ({
  subscription: {cloudStorageConfig: {bucket, maxDuration: {seconds: 1}, ...more}},
});

spec('messages become the lines of a file', async pubsub => {
  const {bucket, folder} = newBucket();
  await fs.mkdir(folder);
  const {orders, warehouse} = await shop(
    pubsub,
    exporting(bucket, {filenamePrefix: 'orders/', filenameSuffix: '.txt', textConfig: {}})
  );

  await publish(orders, 'first', 'second', 'third');

  const lines = async () => Object.values(await objects(folder)).flatMap(text => text.split('\n'));
  await eventually(async () => (await lines()).length === 3);
  assert.deepEqual((await lines()).sort(), ['first', 'second', 'third']);
  for (const name of Object.keys(await objects(folder))) {
    assert.match(name, /^orders\/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00_[0-9a-f]+\.txt$/);
  }
  const [{state, cloudStorageConfig}] = await warehouse.getMetadata();
  assert.deepEqual([state, cloudStorageConfig.state], ['ACTIVE', 'ACTIVE']);
});

spec('an export without its bucket says so, and goes on when it is there', async pubsub => {
  const {bucket, folder} = newBucket();
  const {orders, warehouse} = await shop(pubsub, exporting(bucket));
  await eventually(async () => (await warehouse.getMetadata())[0].state === 'RESOURCE_ERROR');
  assert.equal((await warehouse.getMetadata())[0].cloudStorageConfig.state, 'NOT_FOUND');

  await fs.mkdir(folder);
  await publish(orders, 'hello');

  await eventually(async () => Object.values(await objects(folder)).includes('hello'));
});

spec('nobody pulls from a subscription that exports', async pubsub => {
  const {bucket} = newBucket();
  const {warehouse} = await shop(pubsub, exporting(bucket));

  assert.equal(await codeOf(receive(warehouse, count(1))), CODES.FAILED_PRECONDITION);
});
