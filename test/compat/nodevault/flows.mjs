// Drives a node with node-vault, a JavaScript client of the Vault API. The
// environment says where the node is: VAULT_ADDR, VAULT_CACERT, VAULT_TOKEN.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import vault from "node-vault";

const { VAULT_ADDR: endpoint, VAULT_CACERT, VAULT_TOKEN: owner } = process.env;
const ca = readFileSync(VAULT_CACERT);
const client = (token = owner, more = {}) => vault({ endpoint, token, requestOptions: { ca }, ...more });

// refused checks that a promise is rejected with the status and the first word of ours.
const refused = (promise, status, said) =>
  assert.rejects(promise, (err) => {
    assert.equal(err.response?.statusCode, status, `status of ${err.message}`);
    if (said) assert.match(err.message, said);
    return true;
  });

test("status", async () => {
  const c = client();
  assert.deepEqual(await c.initialized(), { initialized: true });
  const status = await c.status();
  assert.equal(status.sealed, false);
  assert.ok(Number.isInteger(status.t) && Number.isInteger(status.n) && Number.isInteger(status.progress));
  assert.equal((await c.health()).initialized, true);
  assert.equal((await c.leader()).ha_enabled, false);
  await refused(c.init({ secret_shares: 1, secret_threshold: 1 }), 400, /Vault is already initialized/);
  assert.match((await c.help("secret")).help, /secret/i);
});

test("kv version 2", async () => {
  const c = client();
  const made = await c.write("secret/data/js/life", { data: { a: "ü", n: 5, deep: { list: [1, 2.5, null] } } });
  assert.equal(made.data.version, 1);
  assert.deepEqual((await c.read("secret/data/js/life")).data.data, { a: "ü", n: 5, deep: { list: [1, 2.5, null] } });
  await refused(c.write("secret/data/js/life", { data: {}, options: { cas: 0 } }), 400, /check-and-set parameter did not match/);
  await c.update("secret/data/js/life", { data: { b: "c", n: null } });
  assert.deepEqual((await c.read("secret/data/js/life")).data.data, { a: "ü", b: "c", deep: { list: [1, 2.5, null] } });
  assert.equal((await c.read("secret/data/js/life?version=1")).data.data.n, 5);
  await c.delete("secret/data/js/life");
  await assert.rejects(c.read("secret/data/js/life"), (err) => {
    assert.equal(err.response.statusCode, 404);
    assert.equal(err.response.body.data.data, null);
    assert.notEqual(err.response.body.data.metadata.deletion_time, "");
    return true;
  });
  await c.write("secret/undelete/js/life", { versions: [2] });
  await c.destroySecretVersions({ mount_point: "secret", path: "js/life", versions: [1] });
  assert.equal((await c.read("secret/metadata/js/life")).data.versions["1"].destroyed, true);
  assert.deepEqual((await c.list("secret/metadata/js")).data.keys, ["life"]);
  assert.deepEqual((await client(owner, { noCustomHTTPVerbs: true }).list("secret/metadata/js")).data.keys, ["life"]);
  await c.delete("secret/metadata/js/life");
  await refused(c.list("secret/metadata/js"), 404);
});

test("mounts and kv version 1", async () => {
  const c = client();
  await c.mount({ mount_point: "js1", type: "kv", description: "of tests", options: { version: "1" } });
  await refused(c.mount({ mount_point: "js1", type: "kv" }), 400, /path is already in use at js1\//);
  const mounts = await c.mounts();
  assert.equal(mounts["js1/"].type, "kv");
  assert.deepEqual(mounts["js1/"], mounts.data["js1/"]);
  await c.write("js1/a", { x: "y" });
  assert.deepEqual((await c.read("js1/a")).data, { x: "y" });
  await c.remount({ from: "js1", to: "js2" });
  assert.deepEqual((await c.list("js2")).data.keys, ["a"]);
  await c.unmount({ mount_point: "js2" });
  assert.ok((await c.auths())["token/"]);
});

test("policies and tokens", async () => {
  const c = client();
  await c.addPolicy({ name: "js", rules: 'path "secret/data/js/*" { capabilities = ["read"] }' });
  assert.ok((await c.policies()).policies.includes("js"));
  assert.match((await c.getPolicy({ name: "js" })).rules, /secret\/data\/js/);
  // A client takes the token that it created for its own: each is created with another.
  const { auth } = await client().tokenCreate({ policies: ["js"], ttl: "1h", display_name: "js", num_uses: 0, renewable: true });
  assert.deepEqual(auth.policies, ["default", "js"]);
  const mine = client(auth.client_token);
  const me = (await mine.tokenLookupSelf()).data;
  assert.equal(me.display_name, "token-js");
  assert.equal(typeof me.ttl, "number");
  await refused(mine.write("secret/data/js/x", { data: {} }), 403, /permission denied/);
  assert.equal((await mine.tokenRenewSelf({ increment: "30m" })).auth.lease_duration, 1800);
  assert.equal((await c.tokenLookupAccessor({ accessor: auth.accessor })).data.id, "");
  assert.ok((await c.tokenAccessors()).data.keys.includes(auth.accessor));
  await c.addTokenRole({ role_name: "js", allowed_policies: "js,default", orphan: true });
  assert.ok((await c.tokenRoles()).data.keys.includes("js"));
  assert.equal((await client().tokenCreateRole({ role_name: "js", policies: ["js"] })).auth.orphan, true);
  await c.removeTokenRole({ role_name: "js" });
  await c.tokenRevokeAccessor({ accessor: auth.accessor });
  await refused(mine.tokenLookupSelf(), 403, /permission denied/);
  const orphan = (await client().tokenCreateOrphan({ policies: ["default"] })).auth;
  await client(orphan.client_token).tokenRevokeSelf();
  await c.removePolicy({ name: "js" });
  await refused(c.getPolicy({ name: "js" }), 404);
});

test("wrapping", async () => {
  const c = client();
  await c.write("secret/data/js/wrapped", { data: { a: "b" } });
  const { wrap_info: info } = await c.read("secret/data/js/wrapped", { headers: { "X-Vault-Wrap-TTL": 60 } });
  assert.equal(info.ttl, 60);
  assert.deepEqual((await client(info.token).unwrap()).data.data, { a: "b" });
  await refused(client(owner).unwrap({ token: info.token }), 400, /wrapping token is not valid or does not exist/);
});

test("leases, audit and keys", async () => {
  const c = client();
  await c.revoke({ lease_id: "no/lease" });
  await c.revokePrefix({ path_prefix: "no/lease" });
  await refused(c.renew({ lease_id: "no/lease" }), 400, /lease not found/);
  assert.deepEqual((await c.audits()).data, {});
  await refused(c.enableAudit({ name: "f", type: "file", options: { file_path: "/tmp/js-audit.log" } }), 400);
  await c.rotate();
  await c.stepDown();
});

test("errors", async () => {
  await refused(client("hvs.nonsense").read("secret/data/x"), 403, /permission denied/);
  await refused(client(owner).read("secret/data/none"), 404);
  await refused(client(owner, { namespace: "team" }).read("secret/data/x"), 404, /namespace not found/);
  await refused(client(owner).read("nomount/x"), 404, /no handler for route/);
});
