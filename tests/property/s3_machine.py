"""The whole API: objects, uploads and listings on buckets that one machine has to itself."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.property.s3_model import grouped, md5
from tests.property.s3_uploads import UploadMachine


class ApiMachine(UploadMachine):
    """Every page of every listing is what the model says; at the end every version is."""

    buckets = UploadMachine.buckets

    @rule(
        name=buckets, prefix=st.sampled_from(("", "a", "a/", "ä/", "z")),
        delimiter=st.sampled_from(("", "/", "b")), page=st.sampled_from((1, 2, 1000)),
        start_after=st.sampled_from(("", "a/b", "b")),
    )  # fmt: skip
    def list_keys(
        self, name: str, prefix: str, delimiter: str, page: int, start_after: str
    ) -> None:
        if name not in self.model:
            return
        arguments: dict[str, Any] = {
            "Bucket": name, "Prefix": prefix, "Delimiter": delimiter, "MaxKeys": page,
            "StartAfter": start_after,
        }  # fmt: skip
        contents: list[str] = []
        prefixes: list[str] = []
        while True:
            answer = self.call(None, "list_objects_v2", **arguments)
            shown = answer.get("Contents", [])
            assert answer["KeyCount"] == len(shown) + len(answer.get("CommonPrefixes", [])) <= page
            contents += [entry["Key"] for entry in shown]
            prefixes += [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]
            for entry in shown:
                current = self.model[name].current(entry["Key"])
                assert current is not None, entry
                assert (entry["ETag"], entry["Size"]) == (f'"{current.etag}"', len(current.body))
            if not answer["IsTruncated"]:
                break
            arguments["ContinuationToken"] = answer["NextContinuationToken"]
        visible = self.model[name].visible()
        assert (contents, prefixes) == grouped(visible, prefix, delimiter, start_after)

    @rule(name=buckets, page=st.sampled_from((1, 2, 1000)))
    def list_versions(self, name: str, page: int) -> None:
        if name not in self.model:
            return
        found: list[tuple[str, str, bool, bool]] = []
        arguments: dict[str, Any] = {"Bucket": name, "MaxKeys": page}
        while True:
            answer = self.call(None, "list_object_versions", **arguments)
            for kind in ("Versions", "DeleteMarkers"):
                found += [
                    (entry["Key"], entry["VersionId"], entry["IsLatest"], kind != "Versions")
                    for entry in answer.get(kind, [])
                ]
            if not answer["IsTruncated"]:
                break
            arguments["KeyMarker"] = answer["NextKeyMarker"]
            if "NextVersionIdMarker" in answer:
                arguments["VersionIdMarker"] = answer["NextVersionIdMarker"]
            else:
                arguments.pop("VersionIdMarker", None)
        expected = self.model[name].all_versions()
        for is_marker in (False, True):
            assert [row for row in found if row[3] == is_marker] == [
                row for row in expected if row[3] == is_marker
            ]

    @rule(name=buckets)
    def list_uploads(self, name: str) -> None:
        if name not in self.model:
            return
        answer = self.call(None, "list_multipart_uploads", Bucket=name)
        still_open = {u.upload_id: u for u in self.model[name].uploads.values() if u.is_open}
        assert {entry["UploadId"] for entry in answer.get("Uploads", [])} == set(still_open)
        for upload in still_open.values():
            listed = self.call(
                None, "list_parts", Bucket=name, Key=upload.key, UploadId=upload.upload_id
            )
            shown = [(p["PartNumber"], p["Size"], p["ETag"]) for p in listed.get("Parts", [])]
            parts = sorted(upload.parts.items())
            assert shown == [(n, len(body), f'"{md5(body)}"') for n, body in parts]

    def teardown(self) -> None:
        """At the end every version of every bucket is still what it was."""
        for name, bucket in self.model.items():
            self.list_versions(name, 1000)
            for key, versions in bucket.keys.items():
                for version in versions:
                    if not version.is_marker:
                        self.compare(
                            {"Bucket": name, "Key": key, "VersionId": version.version_id}, version
                        )
