// What programs do with dockerode, its streams above all.
'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const { PassThrough, Readable } = require('node:stream');
const { test } = require('node:test');
const Docker = require('dockerode');
const { archive, files } = require('./archive');

const docker = new Docker();
const image = process.env.IMAGE;
const name = (rest) => `${process.env.PREFIX}-${rest}`;

async function text(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

// Both halves of a stream that is framed, once it has ended.
async function halves(stream) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, stdout, stderr);
  stream.on('end', () => { stdout.end(); stderr.end(); });
  return Promise.all([text(stdout), text(stderr)]);
}

async function made(t, options) {
  const container = await docker.createContainer({ Image: image, ...options });
  t.after(() => container.remove({ force: true, v: true }).catch((error) => assert.equal(error.statusCode, 404)));
  return container;
}

const follow = (stream) => new Promise((resolve, reject) => {
  docker.modem.followProgress(stream, (error, steps) => (error ? reject(error) : resolve(steps)));
});

test('a container is made, listed, inspected, renamed and removed', async (t) => {
  const container = await made(t, { name: name('made'), Cmd: ['true'], Labels: { part: name('made') } });
  const listed = await docker.listContainers({ all: true, filters: { label: [`part=${name('made')}`] } });
  assert.deepEqual(listed.map((one) => [one.Id, one.State, one.Names]), [[container.id, 'created', [`/${name('made')}`]]]);
  await container.start();
  assert.deepEqual(await container.wait(), { StatusCode: 0 });
  await container.rename({ name: name('renamed') });
  const shown = await docker.getContainer(name('renamed')).inspect();
  assert.deepEqual([shown.Name, shown.State.Status, shown.Config.Cmd], [`/${name('renamed')}`, 'exited', ['true']]);
  await container.remove();
  await assert.rejects(container.inspect(), { statusCode: 404, reason: 'no such container' });
});

test('what is written to an attached container comes back by its two streams', async (t) => {
  const script = 'read line; echo "out $line"; echo "err $line" >&2; cat';
  const container = await made(t, { Cmd: ['sh', '-c', script], OpenStdin: true, StdinOnce: true, AttachStdin: true });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  await container.start();
  const both = halves(stream);
  stream.write('hello\nrest');
  stream.end();
  assert.deepEqual(await both, ['out hello\nrest', 'err hello\n']);
  assert.deepEqual(await container.wait(), { StatusCode: 0 });
});

test('run tells what came of a container', async () => {
  const output = new PassThrough();
  const said = text(output);
  const [result, container] = await docker.run(image, ['sh', '-c', 'echo said; exit 3'], output, { HostConfig: { AutoRemove: false } });
  output.end();
  assert.deepEqual([result.StatusCode, await said], [3, 'said\r\n']);
  await container.remove();
});

test('an exec with a terminal has the size that it is given', async (t) => {
  const container = await made(t, { Cmd: ['sleep', '1000'] });
  await container.start();
  const exec = await container.exec({ Cmd: ['sh'], Tty: true, AttachStdin: true, AttachStdout: true, AttachStderr: true, Env: ['A=b'] });
  const stream = await exec.start({ hijack: true, stdin: true, Tty: true });
  await exec.resize({ h: 33, w: 77 });
  const said = text(stream);
  stream.write('stty size; echo $A; exit 7\n');
  const words = await said;
  assert.match(words, /33 77/);
  assert.match(words, /\r\nb\r\n/);
  const shown = await exec.inspect();
  assert.deepEqual([shown.Running, shown.ExitCode, shown.ProcessConfig.tty], [false, 7, true]);
});

test('an exec without a terminal has two streams', async (t) => {
  const container = await made(t, { Cmd: ['sleep', '1000'] });
  await container.start();
  const exec = await container.exec({ Cmd: ['sh', '-c', 'cat; pwd >&2'], AttachStdin: true, AttachStdout: true, AttachStderr: true, WorkingDir: '/tmp' });
  const stream = await exec.start({ hijack: true, stdin: true });
  const both = halves(stream);
  stream.end('input');
  assert.deepEqual(await both, ['input', '/tmp\n']);
});

test('logs are followed to the end, and bounded by what is asked for', async (t) => {
  const container = await made(t, { Cmd: ['sh', '-c', 'echo one; echo two >&2; read x; echo three'], OpenStdin: true });
  await container.start();
  const followed = await container.logs({ follow: true, stdout: true, stderr: true });
  const both = halves(followed);
  const input = await container.attach({ stream: true, stdin: true, hijack: true });
  input.end('go\n');
  assert.deepEqual(await both, ['one\nthree\n', 'two\n']);
  await container.wait();
  const last = await container.logs({ follow: false, stdout: true, stderr: true, tail: 1, timestamps: true });
  assert.match(last.subarray(8).toString(), /^\d{4}-\d\d-\d\dT[0-9:.]+Z three\n$/);
});

test('stats come once or for as long as somebody listens', async (t) => {
  const container = await made(t, { Cmd: ['sleep', '1000'] });
  await container.start();
  const once_ = await container.stats({ stream: false });
  assert.ok(once_.memory_stats.usage > 0 && once_.pids_stats.current === 1, JSON.stringify(once_));
  const stream = await container.stats({ stream: true });
  const [first] = await once(stream, 'data');
  assert.equal(JSON.parse(first).name, (await container.inspect()).Name);
  stream.destroy();
});

test('events tell of a life from its beginning to its end', async (t) => {
  const label = `part=${name('events')}`;
  const stream = await docker.getEvents({ filters: { label: [label] } });
  const seen = [];
  const complete = new Promise((resolve) => stream.on('data', (chunk) => {
    for (const line of chunk.toString().split('\n').filter(Boolean)) seen.push(JSON.parse(line).Action);
    if (seen.includes('destroy')) resolve();
  }));
  const container = await made(t, { Cmd: ['true'], Labels: { part: name('events') } });
  await container.start();
  await container.wait();
  await container.remove();
  await complete;
  stream.destroy();
  assert.deepEqual(seen, ['create', 'start', 'die', 'destroy']);
});

test('files go into a container and come out of it', async (t) => {
  const container = await made(t, { Cmd: ['cat', '/srv/given'] });
  await container.putArchive(archive({ 'srv/': null, 'srv/given': 'a gift\n' }), { path: '/' });
  assert.deepEqual(files(Buffer.from(await new Response(await container.getArchive({ path: '/srv' })).arrayBuffer())),
    { 'srv/': '', 'srv/given': 'a gift\n' });
  const about = (await container.infoArchive({ path: '/srv/given' })).headers?.['x-docker-container-path-stat'];
  if (about) assert.equal(JSON.parse(Buffer.from(about, 'base64')).size, 7);
  await container.start();
  await container.wait();
  assert.equal((await container.logs({ stdout: true })).subarray(8).toString(), 'a gift\n');
  await assert.rejects(container.getArchive({ path: '/nowhere' }), { statusCode: 404 });
});

test('an archive is built, and its steps are told', async () => {
  const dockerfile = `FROM ${image}\nARG WHO\nCOPY file /file\nRUN echo "$WHO" >> /file\nLABEL from=dockerode\n`;
  const context = Readable.from([archive({ Dockerfile: dockerfile, file: 'for ' })]);
  const stream = await docker.buildImage(context, { t: name('built'), buildargs: JSON.stringify({ WHO: 'a boat' }), forcerm: true });
  const steps = await follow(stream);
  assert.ok(steps.some((step) => /^Step 1\/\d : FROM /.test(step.stream)), JSON.stringify(steps));
  const { ID } = steps.find((step) => step.aux)?.aux ?? {};
  const built = docker.getImage(name('built'));
  const shown = await built.inspect();
  assert.deepEqual([shown.Id, shown.Config.Labels], [ID, { from: 'dockerode' }]);
  const output = new PassThrough();
  const said = text(output);
  const [, container] = await docker.run(name('built'), ['cat', '/file'], output, {});
  output.end();
  assert.equal(await said, 'for a boat\r\n');
  await container.remove();
  await built.remove();
});

test('a build that fails ends its progress with an error', async () => {
  const context = Readable.from([archive({ Dockerfile: `FROM ${image}\nRUN exit 4\n` })]);
  const steps = await follow(await docker.buildImage(context, { forcerm: true }));
  assert.match(steps.at(-1).error, /returned a non-zero code: 4/);
  assert.equal(steps.at(-1).errorDetail.code, 4);
});

test('an image is pushed and pulled with progress', async () => {
  const [repo, tag] = [`${process.env.REGISTRY}/${name('pushed')}`, 'one'];
  await docker.getImage(image).tag({ repo, tag });
  const pushed = docker.getImage(`${repo}:${tag}`);
  const sent = await follow(await pushed.push({ authconfig: { serveraddress: process.env.REGISTRY } }));
  const { Digest } = sent.find((step) => step.aux)?.aux ?? {};
  assert.match(Digest, /^sha256:[0-9a-f]{64}$/);
  await pushed.remove();
  const steps = await follow(await docker.pull(`${repo}:${tag}`));
  assert.match(steps.at(-1).status, /^Status: Downloaded newer image for /);
  assert.ok(steps.some((step) => step.status === `Digest: ${Digest}`), JSON.stringify(steps));
  const shown = await pushed.inspect();
  assert.deepEqual(shown.RepoDigests.filter((one) => one.startsWith(repo)), [`${repo}@${Digest}`]);
  await pushed.remove();
  await assert.rejects(docker.pull(`${repo}:nothing`).then(follow), /manifest unknown|not found/);
});

test('an image goes out and comes in as an archive', async () => {
  const saved = `${name('saved')}:1`;
  await docker.getImage(image).tag({ repo: name('saved'), tag: '1' });
  const stream = await docker.getImage(saved).get();
  const bytes = Buffer.from(await new Response(stream).arrayBuffer());
  await docker.getImage(saved).remove();
  const answer = await text(await docker.loadImage(Readable.from([bytes])));
  assert.match(answer, new RegExp(`Loaded image: ${saved}`));
  await docker.getImage(saved).remove();
});

test('networks and volumes are made, used and removed', async (t) => {
  const network = await docker.createNetwork({ Name: name('sea'), Driver: 'bridge', Labels: { a: 'b' } });
  const volume = await docker.createVolume({ Name: name('hold'), Labels: { a: 'b' } });
  t.after(() => network.remove());
  const container = await made(t, { Cmd: ['sleep', '1000'], HostConfig: { Binds: [`${name('hold')}:/hold`] } });
  await network.connect({ Container: container.id, EndpointConfig: { Aliases: ['boat'] } });
  await container.start();
  const { Networks } = (await container.inspect()).NetworkSettings;
  assert.ok(Networks[name('sea')].IPAddress && Networks[name('sea')].Aliases.includes('boat'), JSON.stringify(Networks));
  assert.deepEqual(Object.keys((await network.inspect()).Containers), [container.id]);
  await network.disconnect({ Container: container.id, Force: true });
  assert.deepEqual((await network.inspect()).Containers, {});
  await assert.rejects(docker.getVolume(name('hold')).remove(), { statusCode: 409 });
  const { Volumes } = await docker.listVolumes({ filters: { name: [name('hold')] } });
  assert.deepEqual(Volumes.map((one) => [one.Name, one.Driver]), [[name('hold'), 'local']]);
  await container.remove({ force: true });
  await docker.getVolume(volume.Name ?? name('hold')).remove();
});

test('a request is given up in the middle', async (t) => {
  const container = await made(t, { Cmd: ['sleep', '1000'] });
  await container.start();
  const controller = new AbortController();
  const waiting = container.wait({ abortSignal: controller.signal });
  controller.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
  await container.stop({ t: 0 });
  assert.equal((await container.wait()).StatusCode, 137);
});
