// Serves Better Auth below /api/auth, and the page.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { auth, pool, SCHEMA } from "./auth.js";

// In a container it has to listen on more than its own loopback.
const { API_URL, BETTER_AUTH_URL, LISTEN = "127.0.0.1" } = process.env;
const PAGE = {
    "/": ["text/html", await read("index.html")],
    "/page.js": ["text/javascript", await read("page.js")],
    "/todo-api.js": ["text/javascript", await read("todo-api.js")],
    "/config.js": ["text/javascript", `export const API_URL = ${JSON.stringify(API_URL)};\n`],
};

function read(name) {
    return readFile(new URL(`page/${name}`, import.meta.url));
}

async function makeTables() {
    await pool.query(`CREATE SCHEMA IF NOT EXISTS ${SCHEMA}`);
    const { runMigrations } = await getMigrations(auth.options);
    await runMigrations();
}

const handleAuth = toNodeHandler(auth);

const server = createServer((request, response) => {
    const path = request.url.split("?")[0];
    if (path.startsWith("/api/auth/")) {
        // Replaces what the client may have sent.
        request.headers["x-client-address"] = request.socket.remoteAddress;
        return handleAuth(request, response);
    }
    const [type, body] = PAGE[path] ?? ["text/plain", undefined];
    response.writeHead(body === undefined ? 404 : 200, { "Content-Type": `${type}; charset=utf-8` });
    response.end(body ?? "There is no such page.\n");
});

await makeTables();
const port = new URL(BETTER_AUTH_URL).port;
server.on("error", (error) => {
    if (error.code !== "EADDRINUSE") throw error;
    console.error(`Port ${port} is taken. End the program that has it, or set BETTER_AUTH_URL to another port.`);
    pool.end();
    process.exitCode = 1;
});
server.listen(port, LISTEN, () => console.log(`\n  Sign in at ${BETTER_AUTH_URL}\n`));

for (const signal of ["SIGINT", "SIGTERM"]) {
    process.once(signal, () => {
        server.close(() => pool.end());
        server.closeAllConnections();
    });
}
