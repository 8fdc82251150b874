// Two devices and a writer over HTTP change the same tasks, while requests and answers get lost, devices go offline and
// are restarted. At the end nothing may be lost or doubled, and all copies must be equal.
//
// What is checked of a task that nobody deletes: the first device's last title, the second's last description and the
// third writer's last priority are there, as each field has one writer; and exactly the tags that anybody added and did
// not remove again, as tags are merged one by one. The status has three writers, so its copies must be equal, no more.
// A task of the second kind is deleted at some time by anybody, while others go on changing it, and must stay deleted.
// One of the third kind is deleted and restored by one writer, and must be as that writer left it.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { newTask, type Task } from "../task.js";
import { Faults } from "./faults.js";
import { apiFromArguments, copy, copyOf, Server, TestDevice } from "./world.js";

const [operations = 10_000, seed = Date.now() % 100_000] = process.argv.slice(2).map(Number);
const LOST = 0.3;
const MOST_TAGS = 18;
type Kind = "kept" | "thrown" | "back";

/** Mulberry32: numbers from 0 to 1 that a seed repeats. */
function generator(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const random = generator(seed);
const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)];

/** What must be true of a task at the end. */
interface Expected {
  kind: Kind;
  owner: Writer;
  tags: Map<string, Writer>;
  added: number;
  values: Partial<Task>;
  isDeleted: boolean;
}
const expected = new Map<string, Expected>();

interface Writer {
  readonly field: "title" | "description" | "priority";
  readonly letter: string;
  create(task: Task): Promise<unknown>;
  /** False if the writer sees no such task. */
  change(id: string, decide: (task: Task) => Partial<Task>): Promise<boolean>;
  delete(id: string): Promise<boolean>;
  restore(id: string): Promise<boolean>;
}

function local(test: TestDevice, field: Writer["field"], letter: string): Writer {
  const found = (id: string) => test.tasks.findOne(id).exec();
  return {
    field,
    letter,
    create: (task) => test.tasks.insert(task),
    async change(id, decide) {
      const task = await found(id);
      await task?.incrementalModify((data) => ({ ...data, ...decide(data) }));
      return !!task;
    },
    async delete(id) {
      const task = await found(id);
      await task?.incrementalRemove();
      return !!task;
    },
    async restore(id) {
      if (await found(id)) return false;
      const [deleted] = await test.tasks.storageInstance.findDocumentsById([id], true);
      if (!deleted) return false;
      const { _deleted, _meta, _rev, _attachments, ...task } = deleted;
      await test.tasks.insert(task);
      return true;
    },
  };
}

function remote(server: Server): Writer {
  return {
    field: "priority",
    letter: "c",
    create: (task) => server.create(task),
    change: async (id, decide) => (await server.change(id, decide)) !== null,
    delete: async (id) => (await server.delete(id)).status === 200,
    restore: async (id) => (await server.restore(id)).status === 200,
  };
}

let words = 0;
const word = (writer: Writer) => `${writer.letter}${(words++).toString(36)}`;

async function step(writer: Writer): Promise<void> {
  const chance = random();
  if (expected.size < 5 || chance < 0.06) {
    const kind = pick<Kind>(["kept", "kept", "kept", "kept", "thrown", "back"]);
    const id = randomUUID();
    const task = newTask({ id, title: `Task ${word(writer)}` });
    expected.set(id, { kind, owner: writer, tags: new Map(), added: 0, values: {}, isDeleted: false });
    await writer.create(task);
    if (writer.field === "title") expected.get(id)!.values.title ??= task.title;
    return;
  }
  const [id, task] = pick([...expected]);
  if (chance < 0.45 && task.added < MOST_TAGS) {
    const tag = word(writer);
    task.added++;
    if (await writer.change(id, ({ tags }) => ({ tags: [...tags, tag] }))) task.tags.set(tag, writer);
  } else if (chance < 0.5) {
    const own = [...task.tags].filter(([, by]) => by === writer).map(([tag]) => tag);
    let removed: string | undefined;
    await writer.change(id, ({ tags }) => {
      removed = own.find((tag) => tags.includes(tag));
      return { tags: tags.filter((tag) => tag !== removed) };
    });
    if (removed) task.tags.delete(removed);
  } else if (chance < 0.8) {
    const value = writer.field === "priority" ? pick(["low", "medium", "high"] as const) : `By ${word(writer)}`;
    const values = { [writer.field]: value };
    if (await writer.change(id, () => values)) task.values = { ...task.values, ...values };
  } else if (chance < 0.88) {
    await writer.change(id, ({ status }) => ({ status: status === "pending" ? "completed" : "pending" }));
  } else if (task.kind === "thrown") {
    if (random() < 0.2) task.isDeleted = (await writer.delete(id)) || task.isDeleted;
  } else if (task.kind === "back" && task.owner === writer) {
    if (task.isDeleted) task.isDeleted = !(await writer.restore(id));
    else task.isDeleted = await writer.delete(id);
  }
}

const api = apiFromArguments();
const phone = await TestDevice.open(api, "phone", random, { pollSeconds: 0.1, retrySeconds: 0.02 });
const laptop = await TestDevice.open(api, "laptop", random, { pollSeconds: 0.1, retrySeconds: 0.02 });
const wire = new Faults(api.url, random);
const third = new Server({ ...api, url: await wire.open() });
const devices = [phone, laptop];
for (const faults of [phone.faults, laptop.faults, wire]) [faults.before, faults.after] = [LOST, LOST];
const writers = [local(phone, "title", "a"), local(laptop, "description", "b"), remote(third)];

let restarts = 0;
let absences = 0;
for (let done = 0; done < operations; done++) {
  const device = pick(devices);
  const chance = random();
  if (chance < 0.02) {
    device.faults.isOffline = !device.faults.isOffline;
    absences += Number(device.faults.isOffline);
  } else if (chance < 0.025) {
    await device.restart();
    restarts++;
  }
  await step(pick(writers));
  if (random() < 0.05) await sleep(random() * 60);
}

for (const device of devices) device.faults.isOffline = false;
// What one sends the other has to get, and a conflict takes a second time.
for (let round = 0; round < 3; round++) for (const device of devices) await device.sync();

const server = await new Server(api).all();
const truth = copy(server.values());
for (const device of devices) assert.deepEqual(await copyOf(device), truth, `${device.name} differs (seed ${seed})`);
for (const [id, task] of expected) {
  const found = server.get(id);
  assert.equal(!found, task.isDeleted, `${id}, which is "${task.kind}", is not as it was left (seed ${seed})`);
  if (task.kind !== "kept" || !found) continue;
  const lost = [...task.tags.keys()].filter((tag) => !found.tags.includes(tag));
  assert.deepEqual(lost, [], `tags of ${id} are lost (seed ${seed})`);
  assert.equal(found.tags.length, task.tags.size, `${id} has tags that were removed: ${found.tags} (seed ${seed})`);
  for (const [field, value] of Object.entries(task.values)) {
    assert.equal(found[field as keyof Task], value, `${field} of ${id} (seed ${seed})`);
  }
}
assert.deepEqual([...server.keys()].filter((id) => !expected.has(id)), [], "tasks that nobody created");
const refused = (await Promise.all(devices.map((device) => device.device.refused.find().exec()))).flat();
assert.deepEqual(refused.map((each) => each.toMutableJSON()), []);
console.log(
  `${operations} operations on ${expected.size} tasks, ${absences} times offline, ${restarts} restarts: ` +
    `nothing lost, nothing doubled, all copies equal (seed ${seed})`,
);
for (const device of devices) await device.close();
wire.close();
