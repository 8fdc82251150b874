// Better Auth, set up for the Todo API. docs/authentication.md explains each line that the API depends on.

import { APIError } from "better-auth/api";
import { betterAuth } from "better-auth";
import { jwt } from "better-auth/plugins";
import pg from "pg";

// Browsers may reach the API at another address than this program does.
const { API_URL, API_URL_INSIDE = API_URL, BETTER_AUTH_URL } = process.env;
const DAY = 24 * 60 * 60;

export const SCHEMA = "auth";

// The address of the database is in pg's own variables (PGHOST, ...); start.py sets them.
export const pool = new pg.Pool({ options: `-c search_path=${SCHEMA}` });

export const auth = betterAuth({
    baseURL: BETTER_AUTH_URL,
    // Other origins whose pages may sign users in, such as "https://app.example.com".
    trustedOrigins: [],
    database: pool,
    emailAndPassword: { enabled: true },
    plugins: [
        jwt({
            jwt: {
                issuer: BETTER_AUTH_URL, // the API's AUTH_ISSUER
                audience: "todo-api", // the API's AUTH_AUDIENCE
                expirationTime: "15m",
                // Else the token would carry the user's name and e-mail address. Better Auth adds `sub`.
                definePayload: ({ session }) => ({ sid: session.id }),
            },
            jwks: {
                rotationInterval: 30 * DAY,
                // A key must stay longer than a token that it has signed, and no longer than needed.
                gracePeriod: DAY,
            },
        }),
    ],
    advanced: {
        // The API takes the user's id from the token, and its ids are UUIDs (AUTH_SUBJECT=uuid).
        database: { generateId: "uuid" },
        // The limit of sign-ins counts by client address. server.js sets this header from the connection; behind a
        // proxy, name the header that the proxy sets.
        ipAddress: { ipAddressHeaders: ["x-client-address"] },
    },
    user: {
        deleteUser: {
            enabled: true,
            // Runs when the password has been checked. If it fails, the user stays, and can try again.
            beforeDelete: async (user, request) => {
                const { token } = await auth.api.getToken({ headers: request.headers });
                await eraseTasks(token);
            },
        },
    },
});

async function eraseTasks(token) {
    const response = await fetch(`${API_URL_INSIDE}/api/v1/me`, {
        method: "DELETE",
        headers: { Authorization: `Bearer ${token}` },
        signal: AbortSignal.timeout(10_000),
    }).catch(() => undefined);
    if (!response?.ok) {
        throw new APIError("SERVICE_UNAVAILABLE", {
            message: "Your tasks could not be deleted, so your account stays for now. Please try again.",
        });
    }
}
