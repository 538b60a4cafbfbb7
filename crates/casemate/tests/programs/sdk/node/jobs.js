// The official Node SDK, unmodified, with a host of its own: submit, poll, read logs, cancel, errors.
// This SDK speaks HTTPS only, takes every status but 200 for an error, and signs the URL without a port.
'use strict';

const assert = require('node:assert');
const { setTimeout: sleep } = require('node:timers/promises');
const connect = require('ovh');

const { ENDPOINT, APPLICATION_KEY, APPLICATION_SECRET, CONSUMER_KEY, PROJECT, REGION, BUCKET, MAIN, VERSION } = process.env;
const endpoint = new URL(ENDPOINT);
const jobs = `/cloud/project/${PROJECT}/dataProcessing/jobs`;
const ended = ['COMPLETED', 'FAILED', 'TERMINATED'];

function client(secret) {
  return connect({
    host: endpoint.hostname,
    port: Number(endpoint.port || 443),
    basePath: endpoint.pathname,
    appKey: APPLICATION_KEY,
    appSecret: secret,
    consumerKey: CONSUMER_KEY,
  });
}

function body(args, changes = {}) {
  const parameters = {
    job_type: 'python',
    main_application_code: MAIN,
    arguments: args,
    driver_cores: '1',
    driver_memory: '1024',
    executor_cores: '1',
    executor_memory: '1024',
    executor_num: '1',
    ...changes,
  };
  return {
    containerName: BUCKET,
    engine: 'spark',
    engineVersion: VERSION,
    name: 'données du SDK',
    region: REGION,
    engineParameters: Object.entries(parameters).map(([name, value]) => ({ name, value })),
  };
}

async function wait(api, id, statuses) {
  for (let tries = 0; tries < 360; tries += 1) {
    const job = await api.requestPromised('GET', `${jobs}/${id}`);
    if (statuses.includes(job.status)) {
      return job;
    }
    await sleep(500);
  }
  throw new Error(`job ${id} is none of ${statuses}`);
}

async function refused(status, call) {
  await assert.rejects(call, (fault) => fault.error === status && typeof fault.message === 'string');
}

async function main() {
  const api = client(APPLICATION_SECRET);
  assert.ok((await api.requestPromised('GET', '/me')).nichandle);
  assert.ok((await api.requestPromised('GET', '/cloud/project')).includes(PROJECT));

  const submitted = await api.requestPromised('POST', jobs, body('5, 0.2, 0'));
  assert.ok(submitted.id && submitted.name === 'données du SDK', JSON.stringify(submitted));
  assert.ok((await api.requestPromised('GET', jobs)).includes(submitted.id));
  const job = await wait(api, submitted.id, ended);
  assert.deepStrictEqual([job.status, job.returnCode], ['COMPLETED', 0]);
  const answer = await api.requestPromised('GET', `${jobs}/${submitted.id}/logs`, { from: 'now-2h' });
  const lines = answer.logs.map((line) => line.content).filter((line) => line.startsWith('line '));
  assert.deepStrictEqual(lines, [0, 1, 2, 3, 4].map((number) => `line ${number}`));
  assert.ok(answer.logsAddress);

  const sleeper = await api.requestPromised('POST', jobs, body('1000, 1, 0'));
  await wait(api, sleeper.id, ['RUNNING']);
  await api.requestPromised('DELETE', `${jobs}/${sleeper.id}`);
  assert.strictEqual((await wait(api, sleeper.id, ended)).status, 'TERMINATED');

  await refused(404, () => api.requestPromised('GET', `${jobs}/00000000-0000-7000-8000-000000000000`));
  await refused(422, () => api.requestPromised('POST', jobs, body('', { driver_cores: '17' })));
  await refused(403, () => client('x'.repeat(32)).requestPromised('GET', '/me'));
  console.log('the Node SDK did everything');
}

main().catch((fault) => {
  console.error(fault);
  process.exit(1);
});
