'use strict';
// IAM policies of topics and subscriptions.

const assert = require('node:assert/strict');
const {CODES, codeOf, shop, spec} = require('../world');

const VIEWER = {role: 'roles/pubsub.viewer', members: ['allUsers']};
const plain = bindings => bindings.map(({role, members}) => ({role, members}));

for (const kind of ['orders', 'warehouse']) {
  spec(`the policy of ${kind} is read, changed and written back`, async pubsub => {
    const {iam} = (await shop(pubsub))[kind];
    const [policy] = await iam.getPolicy();
    assert.deepEqual(policy.bindings, []);

    policy.bindings.push(VIEWER);
    const [changed] = await iam.setPolicy(policy);

    assert.deepEqual(plain(changed.bindings), [VIEWER]);
    assert.deepEqual(plain((await iam.getPolicy())[0].bindings), [VIEWER]);
    assert.equal(await codeOf(iam.setPolicy(policy)), CODES.ABORTED);
  });
}

spec('a caller learns what it may do', async pubsub => {
  const {orders} = await shop(pubsub);

  const [allowed] = await orders.iam.testPermissions([
    'pubsub.topics.publish',
    'pubsub.topics.nonsense',
  ]);

  assert.deepEqual(allowed, {'pubsub.topics.publish': true, 'pubsub.topics.nonsense': false});
});

spec('a wrong policy is refused', async pubsub => {
  const {orders} = await shop(pubsub);
  const policy = {bindings: [{role: 'roles/nonsense', members: ['allUsers']}]};

  assert.equal(await codeOf(orders.iam.setPolicy(policy)), CODES.INVALID_ARGUMENT);
});

spec('the policy of a schema is read, changed and written back', async pubsub => {
  const schema = await pubsub.createSchema('order', 'AVRO', '"string"');
  const resource = await schema.getName();
  const client = await pubsub.getSchemaClient();

  await client.setIamPolicy({resource, policy: {bindings: [VIEWER]}});

  assert.deepEqual(plain((await client.getIamPolicy({resource}))[0].bindings), [VIEWER]);
});
