// What devices get wrong, one test each; the numbers are those of docs/sync.md.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { afterEach, test as run } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { newTask, schema, type ServerTask, type Task } from "../task.js";
import type { Answer } from "./faults.js";
import { apiFromArguments, copy, copyOf, Server, TestDevice } from "./world.js";

const api = apiFromArguments();
const server = new Server(api);
const devices: TestDevice[] = [];
// RxDB keeps no more than 13 collections open.
afterEach(() => Promise.all(devices.splice(0).map((device) => device.close())));

async function device(more: Partial<typeof api> = {}): Promise<TestDevice> {
  const made = await TestDevice.open({ ...api, ...more });
  devices.push(made);
  await made.sync();
  return made;
}

/** A device that never comes to an end fails, too. */
function test(name: string, body: () => Promise<void>): void {
  run(name, { timeout: 60_000 }, body);
}

/** A device with a task that the server has, too. */
async function deviceWithTask(values: Partial<Task> = {}): Promise<[TestDevice, string]> {
  const made = await device();
  const task = newTask({ title: "Book a flight", ...values });
  await made.tasks.insert(task);
  await made.sync();
  return [made, task.id];
}

async function assertEqualCopies(...devices: TestDevice[]): Promise<void> {
  for (const each of devices) await each.sync();
  const truth = copy((await server.all()).values());
  for (const each of devices) assert.deepEqual(await copyOf(each), truth);
}

const problem = (status: number, headers: Record<string, string> = {}) => async (): Promise<Answer> => ({
  status,
  headers: { "Content-Type": "application/json", ...headers },
  body: JSON.stringify({ type: "urn:problem:todo:test", title: "Test", status, detail: "By order of a test." }),
});
const pushes = (device: TestDevice) => device.faults.arrived.filter(([url]) => url.endsWith("/batch"));

test("(1) changes of two devices are merged field by field, and tags one by one", async () => {
  const [phone, id] = await deviceWithTask({ tags: ["old", "trip"] });
  const laptop = await device();

  await phone.change(id, { title: "Book the flight", tags: ["trip", "phone"] });
  await laptop.change(id, { description: "Not before noon", tags: ["old", "trip", "laptop"] });
  await phone.sync();
  await laptop.sync();

  const { title, description, tags } = (await server.get(id))!;
  assert.deepEqual({ title, description }, { title: "Book the flight", description: "Not before noon" });
  assert.deepEqual(tags.sort(), ["laptop", "phone", "trip"]);
  await assertEqualCopies(phone, laptop);
});

test("(1) a task that one device deletes and another changes is in the trash, and so for both", async () => {
  const [phone, id] = await deviceWithTask();
  const laptop = await device();

  await phone.change(id, { title: "Book the flight" });
  await phone.sync(); // A device sends at once, so its change would race the deletion.
  await laptop.delete(id);
  await laptop.sync();
  await phone.change(id, { title: "Book any flight" });

  await assertEqualCopies(phone, laptop);
  assert.equal(await server.get(id), undefined);
  await server.restore(id);
  await assertEqualCopies(phone, laptop);
  assert.equal((await laptop.get(id))?.title, "Book the flight");
});

test("(2) a device learns the version of its own change, and changes the task again in one request", async () => {
  const [phone, id] = await deviceWithTask();
  await phone.change(id, { title: "Book the flight" });
  await phone.sync();
  assert.equal((await phone.get(id))?.version, (await server.get(id))?.version);

  const before = pushes(phone).length;
  await phone.change(id, { priority: "high" });
  await phone.device.replication.awaitInSync();
  await phone.change(id, { status: "completed" });
  await phone.device.replication.awaitInSync();

  assert.equal(pushes(phone).length - before, 2);
  assert.equal((await server.get(id))?.status, "completed");
});

test("(2) a change that was made between a push and its answer is not taken for an own one", async () => {
  const [phone, id] = await deviceWithTask();
  phone.faults.orders.push([
    "/batch",
    async (forward) => {
      const answer = await forward();
      await server.change(id, () => ({ title: "Book a train" }));
      phone.device.replication.reSync();
      await sleep(200);
      return answer;
    },
  ]);

  await phone.change(id, { priority: "high" });

  await assertEqualCopies(phone);
  assert.equal((await phone.get(id))?.title, "Book a train");
});

test("(2) nor is one that was made while the device was asking for changes and pushed meanwhile", async () => {
  const [phone, id] = await deviceWithTask();
  phone.faults.orders.push(
    [
      "/changes",
      async (forward) => {
        await phone.change(id, { priority: "high" });
        await sleep(100);
        await server.change(id, () => ({ title: "Book a train" }));
        return forward();
      },
    ],
    [
      "/batch",
      async (forward) => {
        const answer = await forward();
        await sleep(300);
        return answer;
      },
    ],
  );

  phone.device.replication.reSync();
  await sleep(50);

  await assertEqualCopies(phone);
  assert.equal((await phone.get(id))?.title, "Book a train");
});

for (const stop of ["paused", "restarted"]) {
  test(`(3) a change whose answer was lost is not undone when the device is ${stop} and changes it back`, async () => {
    const [phone, id] = await deviceWithTask();
    await loseAnswers(phone, () => phone.change(id, { title: "Book a train" }), stop, async () => {
      await phone.change(id, { title: "Book a flight" });
    });

    await assertEqualCopies(phone);
    assert.equal((await server.get(id))?.title, "Book a flight");
  });

  test(`(3) a change whose answer was lost overwrites nothing when the device is ${stop}`, async () => {
    const [phone, id] = await deviceWithTask();
    await loseAnswers(phone, () => phone.change(id, { title: "Book a train" }), stop, async () => {
      await server.change(id, () => ({ title: "Book a bus" }));
      await phone.change(id, { priority: "high" });
    });

    await assertEqualCopies(phone);
    const { title, priority } = (await server.get(id))!;
    assert.deepEqual({ title, priority }, { title: "Book a bus", priority: "high" });
  });

  test(`(3) a new task whose answer was lost is made once when the device is ${stop}, and changes stay`, async () => {
    const phone = await device();
    const task = newTask({ title: "Pack" });
    await loseAnswers(phone, () => phone.tasks.insert(task), stop, async () => {
      await server.change(task.id, () => ({ title: "Pack lightly" }));
      await phone.change(task.id, { priority: "high" });
    });

    await assertEqualCopies(phone);
    const { title, priority } = (await server.get(task.id))!;
    assert.deepEqual({ title, priority }, { title: "Pack lightly", priority: "high" });
  });
}

test("(3) a repeat of a new task does not bring it back from the trash", async () => {
  const phone = await device();
  const task = newTask({ title: "Pack" });
  await loseAnswers(phone, () => phone.tasks.insert(task), "paused", () => server.delete(task.id));

  await assertEqualCopies(phone);
  assert.equal(await server.get(task.id), undefined);
  assert.equal(await phone.get(task.id), undefined);
  assert.deepEqual(await phone.device.refused.find().exec(), []);
});

/** Makes a change of which the server knows and the device does not, and goes on after `meanwhile`. */
async function loseAnswers(
  device: TestDevice,
  change: () => Promise<unknown>,
  stop: string,
  meanwhile: () => Promise<unknown>,
): Promise<void> {
  const before = pushes(device).length;
  device.faults.after = 1;
  await change();
  while (pushes(device).length === before) await sleep(5);
  device.faults.isOffline = true;
  if (stop === "paused") {
    await device.device.replication.pause();
    await sleep(50); // RxDB must notice before it repeats.
    await meanwhile();
    device.faults.isOffline = false;
    device.faults.after = 0;
    await device.device.replication.start();
  } else {
    await device.restart();
    await meanwhile();
    device.faults.isOffline = false;
    device.faults.after = 0;
  }
}

test("(4) a task that was created and deleted offline is deleted, whether or not the server had got it", async () => {
  const phone = await device();
  const [sent, unsent] = [newTask({ title: "Pack" }), newTask({ title: "Unpack" })];

  await loseAnswers(phone, () => phone.tasks.insert(sent), "restarted", async () => {
    await phone.delete(sent.id);
    await phone.tasks.insert(unsent);
    await phone.delete(unsent.id);
  });

  await assertEqualCopies(phone);
  const { answer } = await server.ask("GET", "trash");
  const trash = answer.items.map((task: ServerTask) => task.id);
  assert(trash.includes(sent.id));
  assert(!trash.includes(unsent.id));
  const items = pushes(phone).flatMap(([, body]) => JSON.parse(body).items);
  assert(items.some(({ op, id }) => op === "delete" && id === unsent.id));
});

test("a task that is changed at the moment when its deletion arrives is deleted", async () => {
  const [phone, id] = await deviceWithTask();
  await server.delete(id);
  phone.faults.orders.push([
    "/changes",
    async (forward) => {
      const page = await forward();
      await phone.change(id, { title: "Book a train" });
      return page;
    },
  ]);

  await assertEqualCopies(phone);
  assert.equal(await phone.get(id), undefined);
});

test("(5) what is deleted, and what is erased, is in the feed with all fields that the schema requires", async () => {
  const [phone, id] = await deviceWithTask();
  const laptop = await device();

  const [{ answer: start }] = [await server.ask("GET", "tasks/changes?limit=500")];
  await server.delete(id);
  const trashed = (await server.ask("GET", `tasks/changes?cursor=${start.next_cursor}`)).answer;
  await phone.sync();
  await server.ask("DELETE", `trash/${id}`);
  const erased = (await server.ask("GET", `tasks/changes?cursor=${trashed.next_cursor}`)).answer;

  for (const page of [trashed, erased]) {
    const [tombstone] = page.items;
    assert.equal(tombstone.id, id);
    assert(tombstone.deleted_at);
    assert.deepEqual((schema.required as string[]).filter((field) => !(field in tombstone)), []);
  }
  await assertEqualCopies(phone, laptop);
  assert.equal(await laptop.get(id), undefined);
});

test("(6) a change that the API will not take holds up no other, is told, and can be mended", async () => {
  const [phone, id] = await deviceWithTask();
  phone.faults.isOffline = true;
  await phone.change(id, { title: "\u200b", description: "Not before noon" });
  const good = newTask({ title: "Pack" });
  const bad = newTask({ title: "Unpack", tags: ["a,b"] });
  await phone.tasks.bulkInsert([bad, good]);
  phone.faults.isOffline = false;
  await phone.sync();

  assert.equal((await server.get(good.id))?.title, "Pack");
  assert.equal((await phone.get(id))?.title, "Book a flight");
  assert.equal(await phone.get(bad.id), undefined);
  const refused = new Map((await phone.device.refused.find().exec()).map((each) => [each.id, each.toMutableJSON()]));
  assert.deepEqual([...refused.keys()].sort(), [id, bad.id].sort());
  assert.equal(refused.get(bad.id)!.problem.errors?.[0].field, "tags.0");

  const { title: _, ...mended } = refused.get(id)!.task;
  await phone.change(id, { description: mended.description });
  await phone.tasks.insert({ ...refused.get(bad.id)!.task, tags: ["a", "b"] });
  await assertEqualCopies(phone);
  assert.equal((await server.get(id))?.description, "Not before noon");
  assert.deepEqual((await server.get(bad.id))?.tags, ["a", "b"]);
});

test("a device whose cursor is gone starts anew, and keeps what it has not sent yet", async () => {
  const [phone, id] = await deviceWithTask();
  const deleted = newTask({ title: "Pack" });
  await phone.tasks.insert(deleted);
  await phone.sync();
  phone.faults.isOffline = true;
  await phone.change(id, { priority: "high" });
  const made = newTask({ title: "Unpack" });
  await phone.tasks.insert(made);
  await server.change(id, () => ({ title: "Book a train" }));
  await server.delete(deleted.id);
  phone.faults.orders.push(["/changes", problem(410)]);
  phone.faults.isOffline = false;

  await assertEqualCopies(phone);
  assert.equal(await phone.get(deleted.id), undefined);
  const { title, priority } = (await server.get(id))!;
  assert.deepEqual({ title, priority }, { title: "Book a train", priority: "high" });
  assert(await server.get(made.id));
});

test("a device asks for a new token when the API refuses the last, and comes back when the API says", async () => {
  const asked: boolean[] = [];
  const token = async (renew: boolean) => (asked.push(renew), (await api.token?.(renew)) ?? "a token");
  const phone = await device({ token });
  phone.faults.orders.push(["/batch", problem(401)], ["/batch", problem(503, { "Retry-After": "1" })]);
  const begun = Date.now();

  const task = newTask({ title: "Pack" });
  await phone.tasks.insert(task);
  await assertEqualCopies(phone);

  assert(await server.get(task.id));
  assert.equal(asked.filter((renew) => renew).length, 1);
  assert(Date.now() - begun >= 1000);
});
