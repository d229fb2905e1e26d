"""Drives a node with hvac, the Python client of the Vault API.

The environment says where the node is: VAULT_ADDR, VAULT_CACERT, VAULT_TOKEN.
"""

import os
import unittest

import hvac
from hvac import exceptions

ADDRESS, CACERT, TOKEN = (os.environ[name] for name in ("VAULT_ADDR", "VAULT_CACERT", "VAULT_TOKEN"))


def client(token=TOKEN, **more):
    return hvac.Client(url=ADDRESS, token=token, verify=CACERT, **more)


class KV2(unittest.TestCase):
    def setUp(self):
        self.kv = client().secrets.kv.v2
        self.at = {"mount_point": "secret"}

    def test_life_of_a_secret(self):
        kv, at = self.kv, self.at
        made = kv.create_or_update_secret(path="py/life", secret={"user": "ü", "n": 5, "deep": {"list": [1, 2.5, None]}}, **at)
        self.assertEqual(made["data"]["version"], 1)
        got = kv.read_secret_version(path="py/life", **at)["data"]
        self.assertEqual(got["data"], {"user": "ü", "n": 5, "deep": {"list": [1, 2.5, None]}})
        self.assertEqual((got["metadata"]["version"], got["metadata"]["destroyed"], got["metadata"]["deletion_time"]), (1, False, ""))
        with self.assertRaisesRegex(exceptions.InvalidRequest, "check-and-set parameter did not match the current version"):
            kv.create_or_update_secret(path="py/life", secret={"a": "b"}, cas=0, **at)
        kv.create_or_update_secret(path="py/life", secret={"a": "b"}, cas=1, **at)
        kv.patch(path="py/life", secret={"c": "d"}, **at)
        self.assertEqual(kv.read_secret_version(path="py/life", **at)["data"]["data"], {"a": "b", "c": "d"})
        self.assertEqual(kv.read_secret_version(path="py/life", version=1, **at)["data"]["data"]["n"], 5)

        kv.delete_latest_version_of_secret(path="py/life", **at)
        with self.assertRaises(exceptions.InvalidPath):
            kv.read_secret_version(path="py/life", **at)
        kv.undelete_secret_versions(path="py/life", versions=[3], **at)
        self.assertEqual(kv.read_secret_version(path="py/life", **at)["data"]["metadata"]["version"], 3)
        kv.delete_secret_versions(path="py/life", versions=[2], **at)
        kv.destroy_secret_versions(path="py/life", versions=[1], **at)
        versions = kv.read_secret_metadata(path="py/life", **at)["data"]["versions"]
        self.assertTrue(versions["1"]["destroyed"])
        self.assertNotEqual(versions["2"]["deletion_time"], "")
        kv.delete_metadata_and_all_versions(path="py/life", **at)
        with self.assertRaises(exceptions.InvalidPath):
            kv.read_secret_metadata(path="py/life", **at)

    def test_metadata_and_lists(self):
        kv, at = self.kv, self.at
        kv.update_metadata(path="py/meta", max_versions=2, cas_required=True, delete_version_after="30m0s", **at)
        with self.assertRaisesRegex(exceptions.InvalidRequest, "check-and-set parameter required for this call"):
            kv.create_or_update_secret(path="py/meta", secret={"a": "b"}, **at)
        kv.create_or_update_secret(path="py/meta", secret={"a": "b"}, cas=0, **at)
        meta = kv.read_secret_metadata(path="py/meta", **at)["data"]
        self.assertEqual((meta["max_versions"], meta["cas_required"], meta["delete_version_after"], meta["custom_metadata"]), (2, True, "30m0s", None))
        kv.create_or_update_secret(path="py/dir/a", secret={"a": "b"}, **at)
        self.assertEqual(kv.list_secrets(path="py", **at)["data"]["keys"], ["dir/", "meta"])
        with self.assertRaises(exceptions.InvalidPath):
            kv.list_secrets(path="py/none", **at)

    def test_configuration(self):
        sys = client().sys
        sys.enable_secrets_engine("kv", path="pyconf", options={"version": "2"})
        self.kv.configure(max_versions=3, cas_required=False, delete_version_after="1h", mount_point="pyconf")
        conf = self.kv.read_configuration(mount_point="pyconf")["data"]
        self.assertEqual((conf["max_versions"], conf["cas_required"], conf["delete_version_after"]), (3, False, "1h0m0s"))
        sys.disable_secrets_engine("pyconf")


class KV1(unittest.TestCase):
    def test_life_of_a_secret(self):
        c = client()
        c.sys.enable_secrets_engine("kv", path="py1", options={"version": "1"})
        kv = c.secrets.kv.v1
        kv.create_or_update_secret("a/b", secret={"x": "y", "ttl": "1h"}, mount_point="py1")
        got = kv.read_secret("a/b", mount_point="py1")
        self.assertEqual(got["data"], {"x": "y", "ttl": "1h"})
        self.assertEqual(kv.list_secrets("a", mount_point="py1")["data"]["keys"], ["b"])
        kv.delete_secret("a/b", mount_point="py1")
        with self.assertRaises(exceptions.InvalidPath):
            kv.read_secret("a/b", mount_point="py1")
        self.assertIsNone(c.read("py1/a/b"))
        c.write("py1/c", x="1")
        self.assertEqual(c.read("py1/c")["data"], {"x": "1"})
        self.assertEqual(c.list("py1")["data"]["keys"], ["c"])
        c.sys.disable_secrets_engine("py1")


class Tokens(unittest.TestCase):
    def test_life_of_a_token(self):
        root = client()
        made = root.auth.token.create(policies=["default"], ttl="1h", meta={"for": "tests"}, display_name="py", num_uses=0)["auth"]
        mine = client(made["client_token"])
        self.assertTrue(mine.is_authenticated())
        me = mine.auth.token.lookup_self()["data"]
        self.assertEqual((me["display_name"], me["policies"], me["meta"], me["type"], me["orphan"]), ("token-py", ["default"], {"for": "tests"}, "service", False))
        self.assertEqual(root.auth.token.lookup(made["client_token"])["data"]["accessor"], made["accessor"])
        self.assertEqual(root.auth.token.lookup_accessor(made["accessor"])["data"]["id"], "")
        self.assertIn(made["accessor"], root.auth.token.list_accessors()["data"]["keys"])
        self.assertEqual(mine.auth.token.renew_self(increment="30m")["auth"]["lease_duration"], 1800)
        self.assertEqual(root.auth.token.renew(made["client_token"], increment="20m")["auth"]["client_token"], made["client_token"])
        root.auth.token.renew_accessor(made["accessor"], increment=600)
        root.auth.token.revoke_accessor(made["accessor"])
        self.assertFalse(mine.is_authenticated())
        root.auth.token.tidy()

    def test_trees_and_orphans(self):
        root = client()
        parent = root.auth.token.create(policies=["root"], ttl="1h")["auth"]["client_token"]
        child = client(parent).auth.token.create(policies=["default"])["auth"]["client_token"]
        root.auth.token.revoke_and_orphan_children(parent)
        self.assertFalse(client(parent).is_authenticated())
        self.assertTrue(client(child).auth.token.lookup_self()["data"]["orphan"])
        client(child).auth.token.revoke_self()
        self.assertFalse(client(child).is_authenticated())
        batch = root.auth.token.create(policies=["default"], type="batch", ttl="1h")["auth"]
        self.assertEqual((batch["accessor"], batch["token_type"]), ("", "batch"))
        with self.assertRaises(exceptions.InvalidRequest):
            root.auth.token.revoke(batch["client_token"])

    def test_roles(self):
        token = client().auth.token
        token.create_or_update_role("py", allowed_policies=["default"], orphan=True, renewable=True)
        self.assertEqual(token.read_role("py")["data"]["allowed_policies"], ["default"])
        self.assertIn("py", token.list_roles()["data"]["keys"])
        made = token.create(role_name="py", policies=["default"])["auth"]
        self.assertTrue(made["orphan"])
        with self.assertRaises(exceptions.InvalidRequest):
            token.create(role_name="py", policies=["other"])
        token.delete_role("py")


class Policies(unittest.TestCase):
    def test_policies_and_capabilities(self):
        root = client()
        text = 'path "secret/data/py/*" { capabilities = ["read", "create"] }'
        root.sys.create_or_update_policy("py-reader", text)
        self.assertEqual(root.sys.read_policy("py-reader")["data"], {"name": "py-reader", "rules": text})
        self.assertEqual(root.get_policy("py-reader"), text)
        self.assertIn("py-reader", root.sys.list_policies()["data"]["policies"])
        as_dict = {"path": {"secret/data/py-dict/*": {"capabilities": ["read"]}}}
        root.sys.create_or_update_policy("py-dict", as_dict)
        self.assertEqual(root.get_policy("py-dict", parse=True), as_dict)
        made = root.auth.token.create(policies=["py-reader", "py-dict"])["auth"]
        mine = client(made["client_token"])
        self.assertEqual(mine.sys.get_capabilities(["secret/data/py/x"])["capabilities"], ["create", "read"])
        self.assertEqual(root.sys.get_capabilities(["secret/data/none"], token=made["client_token"])["data"]["capabilities"], ["deny"])
        self.assertEqual(root.sys.get_capabilities(["a", "b"], accessor=made["accessor"])["data"], {"a": ["deny"], "b": ["deny"]})
        with self.assertRaises(exceptions.Forbidden):
            mine.secrets.kv.v2.read_secret_version(path="other", mount_point="secret")
        mine.secrets.kv.v2.create_or_update_secret(path="py/once", secret={"a": "b"}, mount_point="secret")
        with self.assertRaises(exceptions.Forbidden):  # create is not update
            mine.secrets.kv.v2.create_or_update_secret(path="py/once", secret={"a": "b"}, mount_point="secret")
        root.sys.delete_policy("py-reader")
        root.sys.delete_policy("py-dict")
        self.assertIsNone(root.get_policy("py-reader"))


class Wrapping(unittest.TestCase):
    def test_once(self):
        root = client()
        wrapped = root.auth.token.create(policies=["default"], wrap_ttl="60s")
        self.assertIsNone(wrapped["auth"])
        info = wrapped["wrap_info"]
        self.assertEqual((info["ttl"], info["creation_path"]), (60, "auth/token/create"))
        inner = client(token=None).sys.unwrap(info["token"])
        self.assertTrue(client(inner["auth"]["client_token"]).is_authenticated())
        with self.assertRaises((exceptions.InvalidRequest, exceptions.Forbidden)):
            client(token=None).sys.unwrap(info["token"])
        wrapped = root.write("sys/wrapping/wrap", wrap_ttl="1m", a="b")["wrap_info"]
        look = root.write("sys/wrapping/lookup", token=wrapped["token"])["data"]
        self.assertEqual((look["creation_ttl"], look["creation_path"]), (60, "sys/wrapping/wrap"))
        again = root.write("sys/wrapping/rewrap", token=wrapped["token"])["wrap_info"]
        with self.assertRaisesRegex(exceptions.InvalidRequest, "wrapping token is not valid or does not exist"):
            root.sys.unwrap(wrapped["token"])
        self.assertEqual(root.sys.unwrap(again["token"])["data"], {"a": "b"})


class Mounts(unittest.TestCase):
    def test_mounts(self):
        sys = client().sys
        sys.enable_secrets_engine("kv", path="py-team", description="of a team", config={"max_lease_ttl": "24h"}, options={"version": "2"}, local=False, seal_wrap=False)
        with self.assertRaisesRegex(exceptions.InvalidRequest, "path is already in use at py-team/"):
            sys.enable_secrets_engine("kv", path="py-team")
        with self.assertRaisesRegex(exceptions.InvalidRequest, "plugin not found in the catalog: pki-of-mine"):
            sys.enable_secrets_engine("pki-of-mine", path="py-x")
        listed = sys.list_mounted_secrets_engines()
        self.assertEqual(listed["py-team/"], listed["data"]["py-team/"])  # once for old clients, once for new ones
        self.assertEqual(sys.retrieve_mount_option("py-team", "version"), "2")
        sys.tune_mount_configuration(path="py-team", default_lease_ttl="30m", description="tuned")
        tuned = sys.read_mount_configuration("py-team")["data"]
        self.assertEqual((tuned["default_lease_ttl"], tuned["max_lease_ttl"], tuned["description"]), (1800, 86400, "tuned"))
        sys.move_backend("py-team", "py-moved")
        self.assertIn("py-moved/", sys.list_mounted_secrets_engines()["data"])
        sys.disable_secrets_engine("py-moved")
        self.assertIn("token/", sys.list_auth_methods()["data"])
        self.assertEqual(sys.read_auth_method_tuning("token")["data"]["default_lease_ttl"], 2764800)


class System(unittest.TestCase):
    def test_status(self):
        c = client(token=None)
        self.assertTrue(c.sys.is_initialized())
        self.assertFalse(c.sys.is_sealed())
        self.assertEqual(c.sys.read_health_status(method="HEAD").status_code, 200)
        health = c.sys.read_health_status(method="GET")
        self.assertEqual((health["initialized"], health["sealed"], health["standby"]), (True, False, False))
        self.assertRegex(c.seal_status["version"], r"^\d+\.\d+\.\d+")
        self.assertFalse(c.sys.read_leader_status()["ha_enabled"])
        self.assertEqual(c.ha_status["ha_enabled"], False)
        with self.assertRaisesRegex(exceptions.InvalidRequest, "Vault is already initialized"):
            c.sys.initialize(1, 1)

    def test_keys(self):
        c = client()
        before = c.sys.get_encryption_key_status()
        self.assertEqual(before["term"], before["data"]["term"])
        c.sys.rotate_encryption_key()
        self.assertEqual(c.sys.get_encryption_key_status()["data"]["term"], before["term"] + 1)
        c.sys.step_down()

    def test_leases(self):
        sys = client().sys
        with self.assertRaisesRegex(exceptions.InvalidRequest, "invalid lease"):
            sys.read_lease("no/lease")
        with self.assertRaisesRegex(exceptions.InvalidRequest, "lease not found"):
            sys.renew_lease("no/lease", increment=60)
        sys.revoke_lease("no/lease")
        sys.revoke_prefix("no/lease")
        sys.revoke_force("no/lease")
        with self.assertRaises(exceptions.InvalidPath):
            sys.list_leases("no/lease")

    def test_audit(self):
        sys = client().sys
        self.assertEqual(sys.list_enabled_audit_devices()["data"], {})
        with self.assertRaises(exceptions.InvalidRequest):  # the configuration names no directory for it
            sys.enable_audit_device("file", options={"file_path": "/tmp/py-audit.log"})


class Errors(unittest.TestCase):
    def test_what_is_raised(self):
        with self.assertRaises(exceptions.Forbidden):
            client(token="hvs.nonsense").secrets.kv.v2.read_secret_version(path="x", mount_point="secret")
        self.assertFalse(client(token="hvs.nonsense").is_authenticated())
        with self.assertRaises(exceptions.InvalidPath):
            client().write("nomount/x", a="b")
        with self.assertRaises(exceptions.InvalidPath):
            client(namespace="team").secrets.kv.v2.read_secret_version(path="x", mount_point="secret")
        self.assertIsNone(client().read("secret/data/none"))
        self.assertIsNone(client().list("secret/metadata/none"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
