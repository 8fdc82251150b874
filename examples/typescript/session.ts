// Plans a trip with the Todo API, through a client that is typed by the API's contract.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Task = components["schemas"]["Task"];
type TaskPage = components["schemas"]["TaskPage"];
type NewTask = components["schemas"]["NewTask"];
type TaskChanges = components["schemas"]["TaskChanges"];
type Batch = components["schemas"]["Batch"];
type Problem = components["schemas"]["Problem"];

const [baseUrl = "", user_id = ""] = process.argv.slice(2);
assert(baseUrl && user_id, "usage: npm run session -- URL USER_ID");

const token = process.env.TODO_TOKEN;
const api = createClient<paths>({ baseUrl, headers: token ? { Authorization: `Bearer ${token}` } : {} });
const TASKS = "/api/{user_id}/tasks";
const TASK = "/api/{user_id}/tasks/{task_id}";
const trip = `trip-${randomUUID().slice(0, 5)}`; // Each session has a tag of its own.

/** What the API answered; a problem becomes an error. */
function unwrap<T>({ data, error }: { data?: T; error?: Problem }): NonNullable<T> {
  if (!data) throw new Error(error?.detail ?? "No answer");
  return data;
}

/** The same key makes the same task, so that a request can be repeated when its answer was lost. */
const add = (task: NewTask, key: string = randomUUID()) =>
  api.POST(TASKS, {
    params: { path: { user_id }, header: { "Idempotency-Key": key } },
    body: { tags: [trip], ...task },
  });

const get = (task_id: string, etag?: string | null) =>
  api.GET(TASK, { params: { path: { user_id, task_id }, header: etag ? { "If-None-Match": etag } : {} } });

/** All tasks of the trip, a page at a time. */
async function* pages(limit: number): AsyncGenerator<Task[]> {
  let cursor: string | undefined;
  do {
    const query = { tag: [trip], limit, cursor };
    const page: TaskPage = unwrap(await api.GET(TASKS, { params: { path: { user_id }, query } }));
    yield page.items;
    cursor = page.next_cursor ?? undefined;
  } while (cursor);
}

/** Changes the task as we know it. When somebody else was faster, decides again on what they made of it. */
async function change(task: Task, decide: (task: Task) => TaskChanges): Promise<Task> {
  const answer = await api.PATCH(TASK, {
    params: { path: { user_id, task_id: task.id }, header: { "If-Match": `"${task.version}"` } },
    body: decide(task),
  });
  if (answer.response.status !== 412) return unwrap(answer);
  console.log("  Somebody was faster; merging");
  return change(unwrap(await get(task.id)), decide);
}

/** Makes changes in one transaction. One that is refused leaves the others alone. */
const together = async (items: Batch["items"]) =>
  unwrap(await api.POST("/api/{user_id}/tasks/batch", { params: { path: { user_id } }, body: { items } })).results;

console.log("Create a task, and again with the same key, as if the first answer was lost");
const key = randomUUID();
const first = await add({ title: "Book a flight", priority: "high" }, key);
const again = await add({ title: "Book a flight", priority: "high" }, key);
const flight = unwrap(first);
assert.equal(first.response.status, 201);
assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");
assert.equal(unwrap(again).id, flight.id);

console.log("Create some more");
const due_date = new Date(Date.now() + 3 * 24 * 60 * 60 * 1000).toISOString();
const hotel = unwrap(await add({ title: "Reserve a hotel", priority: "high", due_date }));
for (const title of ["Buy sun cream", "Find the passport", "Learn some Portuguese"]) {
  unwrap(await add({ title, priority: "low" }));
}

console.log("List what is urgent, the first due first");
const urgent = await api.GET(TASKS, {
  params: { path: { user_id }, query: { tag: [trip], priority: ["high", "medium"], sort: "due_date" } },
});
assert.deepEqual(
  unwrap(urgent).items.map((task) => task.title),
  ["Reserve a hotel", "Book a flight"],
);

console.log("Walk through all of it, two at a time");
const sizes: number[] = [];
for await (const page of pages(2)) sizes.push(page.length);
assert.deepEqual(sizes, [2, 2, 1]);

console.log("Get a task, and again only if it has changed");
const etag = (await get(flight.id)).response.headers.get("ETag");
assert.equal((await get(flight.id, etag)).response.status, 304);

console.log("Change it on the phone, then on the laptop, which has not seen that");
await change(flight, ({ tags }) => ({ tags: [...tags, "phone"] }));
const booked = await change(flight, ({ tags }) => ({ tags: [...tags, "laptop"], status: "completed" }));
assert.deepEqual(booked.tags, [trip, "phone", "laptop"]);

console.log("Replace a task: what is left out goes to its default");
const stay = await api.PUT(TASK, {
  params: { path: { user_id, task_id: hotel.id } },
  body: { title: "Stay with Ana", tags: [trip] },
});
assert.equal(unwrap(stay).title, "Stay with Ana");
assert.equal(unwrap(stay).due_date, null);

console.log("Count what there is");
const summary = await api.GET("/api/{user_id}/tasks/summary", { params: { path: { user_id } } });
assert.equal(unwrap(summary).tags[trip], 5);

console.log("Make a mistake, which the compiler finds, too");
// @ts-expect-error: the contract knows no such priority.
const { error: problem } = await add({ title: "Pack", priority: "urgent" });
assert.equal(problem?.type, "urn:problem:todo:invalid-input");
for (const { field, detail } of problem.errors ?? []) console.log(`  ${field}: ${detail}`);

console.log("Delete a task, and undo that together with another change");
const trashed = unwrap(await api.DELETE(TASK, { params: { path: { user_id, task_id: hotel.id } } }));
const [restored, refused] = await together([
  { op: "restore", id: hotel.id, if_version: trashed.version },
  { op: "patch", id: booked.id, if_version: booked.version - 1, key: randomUUID(), completed: true },
]);
assert.deepEqual([restored?.status, refused?.status], [200, 412]);
assert.equal(refused?.task?.version, booked.version);

console.log("Delete all of it");
for await (const page of pages(100)) {
  const results = await together(page.map(({ id }) => ({ op: "delete", id })));
  assert(results.every(({ status }) => status === 200));
}
assert.equal((await get(flight.id)).error?.type, "urn:problem:todo:task-not-found");
