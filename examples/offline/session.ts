// Plans the same trip on a phone and on a laptop, while both are offline, and brings the two together.

import assert from "node:assert/strict";
import { openDevice, type Device } from "./device.js";
import { newTask } from "./task.js";

const [url = "", user = ""] = process.argv.slice(2);
assert(url && user, "usage: npm run session -- URL USER_ID");
const token = process.env.TODO_TOKEN;
const api = { url, user, ...(token && { token: async () => token }) };

/** Sends what there is to send, then gets what there is to get. */
async function sync({ replication }: Device): Promise<void> {
  await replication.awaitInSync();
  replication.reSync();
  await replication.awaitInSync();
}

const find = async (device: Device, id: string) => (await device.tasks.findOne(id).exec())!;

console.log("Create a task on the phone, and get it on the laptop");
const phone = await openDevice("phone", api);
const laptop = await openDevice("laptop", api);
const flight = newTask({ title: "Book a flight", tags: ["trip"] });
await phone.tasks.insert(flight);
await sync(phone);
await sync(laptop);
assert.equal((await find(laptop, flight.id)).title, "Book a flight");

console.log("Go offline, and change it on both");
await phone.replication.pause();
await laptop.replication.pause();
await (await find(phone, flight.id)).incrementalPatch({ title: "Book the night train", tags: ["trip", "phone"] });
await (await find(laptop, flight.id)).incrementalPatch({ priority: "high", tags: ["trip", "laptop"] });

console.log("Create a task that the API will not take");
const passport = newTask({ title: "Find the passport", tags: ["a,b"] });
await laptop.tasks.insert(passport);

console.log("Come back: what both changed is merged, and the app is told of what was refused");
await phone.replication.start();
await laptop.replication.start();
for (const device of [phone, laptop, phone]) await sync(device);
for (const device of [phone, laptop]) {
  const { title, priority, tags } = await find(device, flight.id);
  assert.deepEqual({ title, priority }, { title: "Book the night train", priority: "high" });
  assert.deepEqual([...tags].sort(), ["laptop", "phone", "trip"]);
}
for (const { task, problem } of await laptop.refused.find().exec()) {
  console.log(`  ${task.title}: ${problem.errors?.map((error) => `${error.field}: ${error.detail}`)}`);
}

console.log("Delete it on the phone; the laptop sees that");
await (await find(phone, flight.id)).incrementalRemove();
await sync(phone);
await sync(laptop);
assert.equal(await find(laptop, flight.id), null);
await phone.database.close();
await laptop.database.close();
