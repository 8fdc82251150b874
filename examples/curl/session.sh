#!/usr/bin/env bash
# Plans a trip with the Todo API and curl alone (7.82 or newer, for --json).
set -euo pipefail

url=${1:?usage: session.sh URL USER_ID}
tasks=$url/api/${2:?usage: session.sh URL USER_ID}/tasks
sign_in=(${TODO_TOKEN:+-H "Authorization: Bearer $TODO_TOKEN"})
trip=trip-$RANDOM # Each session has a tag of its own.

answer=$(mktemp)
headers=$(mktemp)
trap 'rm "$answer" "$headers"' EXIT
trap 'echo "Line $LINENO is not as expected" >&2' ERR

# call STATUS ARGUMENT...: asks curl, and ends the session unless the answer has this status.
call() {
    local status
    status=$(curl -sS -o "$answer" -D "$headers" -w '%{http_code}' "${sign_in[@]}" "${@:2}")
    [ "$status" = "$1" ] || { echo "Got $status instead of $1: $(cat "$answer")" >&2; exit 1; }
}

header() { grep -i "^$1: " "$headers" | cut -d ' ' -f 2- | tr -d '\r'; }
show() { grep -o "$1" "$answer"; }

echo 'Create a task, and again with the same key, as if the first answer was lost'
wish="{\"title\": \"Book a flight\", \"priority\": \"high\", \"tags\": [\"$trip\"]}"
key=$trip-$(date +%s)
call 201 "$tasks" -H "Idempotency-Key: $key" --json "$wish"
flight=$url$(header Location)
call 200 "$tasks" -H "Idempotency-Key: $key" --json "$wish"
header Idempotency-Replayed >/dev/null

echo 'Create some more'
call 201 "$tasks" --json "{\"title\": \"Reserve a hotel\", \"tags\": [\"$trip\"]}"
hotel=$url$(header Location)
call 201 "$tasks" --json "{\"title\": \"Find the passport\", \"priority\": \"low\", \"tags\": [\"$trip\"]}"
passport=$url$(header Location)

echo 'List what is urgent'
call 200 -G "$tasks" -d "tag=$trip" -d priority=high -d priority=medium -d sort=-priority
[ "$(show '"title":"[^"]*"' | head -n 1)" = '"title":"Book a flight"' ]

echo 'Walk through all of it, two at a time'
call 200 -G "$tasks" -d "tag=$trip" -d limit=2
next=$url$(header Link | cut -d '<' -f 2 | cut -d '>' -f 1)
call 200 "$next"
show '"next_cursor":null'

echo 'Get a task, and again only if it has changed'
call 200 "$flight"
etag=$(header ETag)
call 304 "$flight" -H "If-None-Match: $etag"

echo 'Change it on the phone, then on the laptop, which has not seen that'
call 200 -X PATCH "$flight" -H "If-Match: $etag" --json '{"description": "Window seat"}'
call 412 -X PATCH "$flight" -H "If-Match: $etag" --json '{"status": "completed"}'
show '"title":"[^"]*"'
call 200 "$flight"
call 200 -X PATCH "$flight" -H "If-Match: $(header ETag)" --json '{"status": "completed"}'
show '"description":"Window seat","status":"completed"'

echo 'Replace a task: what is left out goes to its default'
call 200 -X PUT "$hotel" --json "{\"title\": \"Stay with Ana\", \"tags\": [\"$trip\"]}"

echo 'Count what there is'
call 200 "$tasks/summary"
show "\"$trip\":3"

echo 'Make a mistake'
call 400 "$tasks" --json '{"title": "Pack", "priority": "urgent"}'
show '"errors":.*'

echo 'Delete all of it'
for task in "$flight" "$hotel" "$passport"; do
    call 200 -X DELETE "$task"
done
call 404 "$flight"
