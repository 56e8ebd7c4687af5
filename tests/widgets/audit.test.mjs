// Findings of one check together, by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { grouped } from "../../widgets/audit_board.js";

test("findings of one check and severity are one group, in the order in which the first of each comes", () => {
  const finding = (severity, check, what) => ({ severity, check, what });
  const groups = grouped([
    finding("error", "twins", 1), finding("warning", "noise", 2), finding("error", "twins", 3), finding("note", "twins", 4),
  ]);
  assert.deepEqual(groups.map(({ members }) => members.map((f) => f.what)), [[1, 3], [2], [4]]);
  assert.equal(new Set(groups.map(({ key }) => key)).size, 3);
  assert.deepEqual(grouped([]), []);
});
