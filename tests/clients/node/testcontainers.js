// What tests of other projects do with testcontainers: whether a service is ready, and that nothing of it is left.
'use strict';
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { mkdtemp, writeFile } = require('node:fs/promises');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { text } = require('node:stream/consumers');
const { test } = require('node:test');
const Docker = require('dockerode');
const { DockerComposeEnvironment, GenericContainer, Network, Wait } = require('testcontainers');
const { files } = require('./archive');

const image = process.env.IMAGE;
const server = ['sh', '-c', 'mkdir -p /srv; echo hello >/srv/index.html; echo the server is ready; exec httpd -f -p 8080 -h /srv'];
const served = () => new GenericContainer(image).withCommand(server).withExposedPorts(8080);

async function answers(container) {
  const answer = await fetch(`http://${container.getHost()}:${container.getMappedPort(8080)}/`);
  assert.equal(await answer.text(), 'hello\n');
}

const strategies = {
  'a line of its log': [served, Wait.forLogMessage(/is ready/)],
  'its ports': [served, Wait.forListeningPorts()],
  'an answer over HTTP': [served, Wait.forHttp('/', 8080).forStatusCode(200).forResponsePredicate((body) => body === 'hello\n')],
  'a command in it': [served, Wait.forSuccessfulCommand('wget -q -O - http://127.0.0.1:8080/')],
  'its health': [
    () => served().withHealthCheck({ test: ['CMD-SHELL', 'wget -q -O - http://127.0.0.1:8080/'], interval: 200, timeout: 5000, retries: 20 }),
    Wait.forHealthCheck(),
  ],
  'all of these': [served, Wait.forAll([Wait.forListeningPorts(), Wait.forLogMessage('the server is ready')])],
};

for (const [what, [make, strategy]] of Object.entries(strategies)) {
  test(`a service is ready by ${what}`, async () => {
    const container = await make().withWaitStrategy(strategy).withStartupTimeout(60_000).start();
    await answers(container);
    await container.stop();
  });
}

test('one that ends is waited for, and one that fails is told of', async () => {
  const once = new GenericContainer(image).withWaitStrategy(Wait.forOneShotStartup());
  const container = await once.withCommand(['sh', '-c', 'echo migrated']).start();
  assert.equal(await text(await container.logs()), 'migrated\n');
  await container.stop();
  await assert.rejects(new GenericContainer(image).withWaitStrategy(Wait.forOneShotStartup()).withCommand(['false']).start());
});

test('commands run in it, with an environment, a directory and a user', async () => {
  const container = await served().withEnvironment({ A: 'a' }).start();
  const result = await container.exec(['sh', '-c', 'echo $A $B; pwd; id -u; echo bad >&2; exit 5'], { env: { B: 'b' }, workingDir: '/tmp', user: '33' });
  assert.deepEqual([result.exitCode, result.stdout, result.stderr], [5, 'a b\n/tmp\n33\n', 'bad\n']);
  await container.stop();
});

test('files are copied before its start, while it runs and out of it', async () => {
  const container = await served()
    .withCopyContentToContainer([{ content: 'before', target: '/given/before', mode: 0o600 }])
    .withTmpFs({ '/quick': 'rw,size=1m' }).start();
  await container.copyContentToContainer([{ content: 'after', target: '/given/after' }]);
  const shown = await container.exec(['sh', '-c', 'cat /given/*; stat -c %a /given/before; df -k /quick | tail -n 1 | awk "{print \\$2}"']);
  assert.equal(shown.output, 'afterbefore600\n1024\n');
  const stream = await container.copyArchiveFromContainer('/given/before');
  assert.deepEqual(files(Buffer.from(await new Response(stream).arrayBuffer())), { before: 'before' });
  await container.stop();
});

test('containers of a network find each other by their names', async () => {
  const network = await new Network().start();
  const web = await served().withNetwork(network).withNetworkAliases('web').start();
  const other = await new GenericContainer(image).withNetwork(network).withCommand(['sleep', '1000']).start();
  assert.equal((await other.exec(['wget', '-q', '-O', '-', 'http://web:8080/'])).output, 'hello\n');
  assert.match(web.getIpAddress(network.getName()), /^\d+\.\d+\.\d+\.\d+$/);
  await Promise.all([web.stop(), other.stop()]);
  await network.stop();
});

test('a restarted container keeps its files, and its ports are told anew', async () => {
  const container = await served().start();
  await container.exec(['touch', '/kept']);
  await container.restart();
  assert.equal((await container.exec(['ls', '/kept'])).output, '/kept\n');
  await answers(container);
  await container.stop();
});

test('an image is built from a Dockerfile', async () => {
  const place = await mkdtemp(join(tmpdir(), 'testcontainers-'));
  await writeFile(join(place, 'Dockerfile'), `FROM ${image}\nARG WHO\nRUN echo "for $WHO" >/said\nCMD ["sh", "-c", "cat /said"]\n`);
  const built = await GenericContainer.fromDockerfile(place).withBuildArgs({ WHO: 'tests' }).build();
  const container = await built.withWaitStrategy(Wait.forLogMessage('for tests')).start();
  await container.stop();
});

test('services of compose come up and go', async () => {
  const place = await mkdtemp(join(tmpdir(), 'testcontainers-'));
  const services = { web: { image, command: server, ports: ['8080'] }, db: { image, command: ['sleep', '1000'], stop_grace_period: '0s' } };
  await writeFile(join(place, 'compose.json'), JSON.stringify({ services }));
  const environment = await new DockerComposeEnvironment(place, 'compose.json')
    .withWaitStrategy('web-1', Wait.forLogMessage('is ready')).withStartupTimeout(60_000).up();
  await answers(environment.getContainer('web-1'));
  assert.equal((await environment.getContainer('db-1').exec(['wget', '-q', '-O', '-', 'http://web:8080/'])).output, 'hello\n');
  await environment.down();
});

// The reaper ends what a killed program leaves.
test('nothing is left of a program that was killed', async () => {
  const script = `
    const { GenericContainer } = require('testcontainers');
    new GenericContainer(process.env.IMAGE).withCommand(['sleep', '1000']).start().then((one) => console.log(one.getId()));`;
  const program = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const id = await new Promise((resolve) => program.stdout.once('data', (line) => resolve(line.toString().trim())));
  const container = new Docker().getContainer(id);
  assert.equal((await container.inspect()).State.Running, true);
  const gone = container.wait({ condition: 'removed' });
  program.kill('SIGKILL');
  await gone;
  await assert.rejects(container.inspect(), { statusCode: 404 });
});
