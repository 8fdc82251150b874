// A device: a database with the user's tasks, and with the changes that the API did not take.

import { addRxPlugin, createRxDatabase, type RxCollection, type RxJsonSchema } from "rxdb";
import { RxDBLocalDocumentsPlugin } from "rxdb/plugins/local-documents";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { wrappedValidateAjvStorage } from "rxdb/plugins/validate-ajv";
import type { Api, Problem } from "./api.js";
import { conflictHandler, replicateTasks, type Options } from "./replication.js";
import { schema, type Task } from "./task.js";

addRxPlugin(RxDBLocalDocumentsPlugin);

/** A change that the API will not take, for the app to show, to mend and to write again. */
export interface Refused {
  id: string;
  task: Task;
  problem: Problem;
}

const refusedSchema: RxJsonSchema<Refused> = {
  version: 0,
  primaryKey: "id",
  type: "object",
  properties: {
    id: { type: "string", maxLength: 36 },
    task: { type: "object", additionalProperties: true },
    problem: { type: "object", additionalProperties: true },
  },
  required: ["id", "task", "problem"],
};

export async function openDevice(name: string, api: Api, times: Pick<Options, "pollSeconds" | "retrySeconds"> = {}) {
  // The memory storage keeps the data of a closed database while the program runs; `storage-dexie` keeps it on disk.
  const storage = wrappedValidateAjvStorage({ storage: getRxStorageMemory() });
  const database = await createRxDatabase<{ tasks: RxCollection<Task>; refused: RxCollection<Refused> }>({
    name,
    storage,
    multiInstance: false,
  });
  await database.addCollections({
    tasks: { schema, conflictHandler, localDocuments: true },
    refused: { schema: refusedSchema },
  });
  const { tasks, refused } = database.collections;
  const replication = await replicateTasks({
    api,
    collection: tasks,
    refused: (task, problem) => refused.upsert({ id: task.id, task, problem }),
    ...times,
  });
  return { database, tasks, refused, replication };
}

export type Device = Awaited<ReturnType<typeof openDevice>>;
