// Keeps a collection of RxDB equal to a user's tasks: pulls the feed of changes, pushes local changes by batch.
// The numbers (1) to (6) are those of "What devices get wrong" in docs/sync.md.

import { replicateRxCollection, type RxReplicationState } from "rxdb/plugins/replication";
import type { RxCollection, RxConflictHandler, RxReplicationWriteToMasterRow } from "rxdb";
import { interval, map } from "rxjs";
import { call, Refusal, type Api, type Problem } from "./api.js";
import { fromServer, VALUES, type ServerTask, type Task, type TaskState } from "./task.js";

type Row = RxReplicationWriteToMasterRow<Task>;
type Page = { items: ServerTask[]; next_cursor: string; more: boolean };
type Item = { op: string; id: string; key: string };
/** Changes by the id of their task, as they were sent. */
type Sent = Record<string, { row: Row; item: Item }>;
type Result = { id: string; status: number; task?: ServerTask; problem?: Problem };
/** Stands beside the server's state of a task when RxDB is wrong about the state that local changes began with. */
const BASE = Symbol("base");
type Theirs = TaskState & { [BASE]?: TaskState };

const equal = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
const changed = (a: TaskState, b?: TaskState) => VALUES.filter((field) => !b || !equal(a[field], b[field]));
const alike = (a: TaskState, b: TaskState) => a._deleted === b._deleted && (a._deleted || !changed(a, b).length);

/** (1) RxDB's own handler drops the local changes. This one merges by field, and tags one by one; deleting wins. */
export const conflictHandler: RxConflictHandler<Task> = {
  isEqual: (a, b) => a.version === b.version && alike(a, b),
  async resolve({ assumedMasterState, newDocumentState: mine, realMasterState }) {
    const { [BASE]: base = assumedMasterState ?? mine, ...theirs } = realMasterState as Theirs;
    const kept = theirs.tags.filter((tag) => mine.tags.includes(tag) || !base.tags.includes(tag));
    const added = mine.tags.filter((tag) => !base.tags.includes(tag) && !theirs.tags.includes(tag));
    const values = Object.fromEntries(changed(mine, base).map((field) => [field, mine[field]]));
    const _deleted = mine._deleted === base._deleted ? theirs._deleted : mine._deleted;
    return { ...theirs, ...values, tags: [...kept, ...added], _deleted };
  },
};

export interface Options {
  api: Api;
  collection: RxCollection<Task>;
  /** Gets a local change that the API will never take; afterwards the task is again as the server has it. */
  refused: (task: Task, problem: Problem) => Promise<unknown>;
  pollSeconds?: number;
  retrySeconds?: number;
}

export async function replicateTasks(options: Options): Promise<RxReplicationState<Task, { cursor: string }>> {
  const { api, collection, refused, pollSeconds = 30, retrySeconds = 5 } = options;
  const stop = new AbortController();
  // (3) What was sent since the last pull, by id: a restart must not forget it, as the answer may have been lost.
  let sent: Sent = (await collection.getLocal<{ sent: Sent }>("sent"))?.get("sent") ?? {};
  const remember = (changes: Sent) => collection.upsertLocal("sent", { sent: (sent = changes) });
  /** What was sent of a task, as long as RxDB does not know that the server has it. */
  const unsettled = (id: string, base?: TaskState) => {
    return sent[id] && equal(sent[id].row.assumedMasterState, base) ? sent[id] : undefined;
  };
  // Else RxDB would not push a task that was changed, sent and changed back.
  collection.conflictHandler = {
    ...conflictHandler,
    isEqual: (a, b, context) =>
      conflictHandler.isEqual(a, b, context) && !(context === "upstream-check-if-equal" && unsettled(a.id, a)),
  };
  // The version that the server gave to what was sent; RxDB learns it when the change comes back in the feed.
  const versions = new Map<string, TaskState>();

  let last: Promise<unknown> = Promise.resolve();
  /** RxDB takes a change that it pulls while it pushes the same task for its own, and drops it. So each in its turn. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = last.then(work);
    last = done.catch(() => {});
    return done;
  }

  async function pull(cursor?: string) {
    // Until all that was pushed is also in RxDB's books.
    const pushed = () => replication.internalReplicationState!.streamQueue.up;
    for (let seen; seen !== pushed(); ) await (seen = pushed());
    return inTurn(async () => {
      if (Object.keys(sent).length) await remember({});
      // (2) One's own changes are in the feed, too: that is how a device learns their versions.
      const page = await changes(cursor).catch((error) => {
        if (!(error instanceof Refusal) || error.problem.status !== 410) throw error;
      });
      if (!page) return anew();
      return { documents: page.items.map(fromServer), checkpoint: { cursor: page.next_cursor } };
    });
    function changes(cursor?: string) {
      return call<Page>(api, stop.signal, `tasks/changes?limit=100${cursor ? `&cursor=${cursor}` : ""}`);
    }
    /** What the server has, and as deleted what it no longer has; RxDB leaves alone what is not pushed yet. */
    async function anew() {
      const items: ServerTask[] = [];
      let page: Page | undefined;
      do items.push(...(page = await changes(page?.next_cursor)).items);
      while (page.more);
      const ids = new Set(items.map((task) => task.id));
      const gone = (await collection.find().exec()).filter((task) => !ids.has(task.id));
      const deleted = gone.map((task) => ({ ...task.toMutableJSON(), _deleted: true }));
      return { documents: [...items.map(fromServer), ...deleted], checkpoint: { cursor: page.next_cursor } };
    }
  }

  async function push(rows: Row[]): Promise<TaskState[]> {
    const changes = await Promise.all(
      rows.map(async (row) => {
        // (3) What was sent without an answer is sent again as it was, even if the task has changed since then.
        const { id } = row.newDocumentState;
        return unsettled(id, row.assumedMasterState) ?? { row, item: await item(row) };
      }),
    );
    const sending = changes.filter((change): change is Sent[string] => change.item !== undefined);
    if (!sending.length) return [];
    await remember({ ...sent, ...Object.fromEntries(sending.map((change) => [change.item.id, change])) });
    const items = sending.map((change) => change.item);
    const answer = await call<{ results: Result[] }>(api, stop.signal, "tasks/batch", { items });
    const results = new Map(answer.results.map((result) => [result.id, result]));

    const conflicts: Theirs[] = [];
    for (const { newDocumentState: mine, assumedMasterState: base } of rows) {
      const { id } = mine;
      const result = results.get(id);
      if (!result) continue; // There was nothing to change.
      const gone: TaskState = { ...mine, _deleted: true };
      const theirs = result.task ? fromServer(result.task) : gone;
      const { row, item } = sent[id];
      if (result.status <= 201) {
        // (3) A repeat gets here, too: "exists already" and "applied already" are done.
        if (alike(theirs, mine)) versions.set(id, theirs);
        else conflicts.push({ ...theirs, [BASE]: item.op === "restore" ? base : row.newDocumentState });
      } else if (result.status === 404 && item.op !== "create") {
        if (!mine._deleted) conflicts.push({ ...gone, [BASE]: mine });
      } else if (result.status === 409 || result.status === 412) {
        conflicts.push(theirs);
      } else {
        // (6) The API refuses an item, not the batch: the others must not wait for it.
        delete sent[id];
        if (!equal(row.newDocumentState, mine)) return push(rows);
        await refused(mine, result.problem!);
        conflicts.push({ ...(base ?? gone), [BASE]: mine });
      }
    }
    return conflicts;
  }

  /** The change as the API takes it; nothing if there is none. */
  async function item({ assumedMasterState: base, newDocumentState: mine }: Row): Promise<Item | undefined> {
    if (base && alike(base, mine)) return;
    // (4) What was created and deleted before it was sent is deleted all the same: an earlier attempt may have made it.
    const isNew = !base || (base._deleted && !base.version);
    const op = mine._deleted ? "delete" : isNew ? "create" : base._deleted ? "restore" : "patch";
    const values = op === "create" ? VALUES : op === "patch" ? changed(mine, base) : [];
    const known = versions.get(mine.id);
    // No task has version 1: without a version that is known, the API answers with the task as it is.
    const if_version = Math.max(base?.version ?? 0, known && base && alike(known, base) ? known.version : 1);
    const change = {
      op,
      id: mine.id,
      ...(base && op !== "create" && { if_version }),
      ...Object.fromEntries(values.map((field) => [field, mine[field]])),
    };
    // The same change has the same key, so that the API knows it again.
    return { ...change, key: await collection.database.hashFunction(JSON.stringify(change)) };
  }

  const replication = replicateRxCollection<Task, { cursor: string }>({
    replicationIdentifier: `${api.url}/${api.user}`,
    collection,
    retryTime: retrySeconds * 1000,
    pull: {
      handler: (checkpoint) => pull(checkpoint?.cursor),
      batchSize: 100,
      stream$: interval(pollSeconds * 1000).pipe(map(() => "RESYNC" as const)),
    },
    push: { handler: (rows) => inTurn(() => push(rows)), batchSize: 100 },
  });
  replication.onCancel.push(() => stop.abort());
  return replication;
}
