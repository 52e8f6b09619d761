"""Generate the pages of docs/ that the code is the source of; `make generate` runs it."""

from pathlib import Path

from common.config import describe
from gateway.config import GatewayConfig
from gateway.handlers.acl import AclHandlers
from gateway.handlers.bucket import BucketHandlers
from gateway.handlers.delete import DeleteHandlers
from gateway.handlers.listing import ListingHandlers
from gateway.handlers.multipart import MultipartHandlers
from gateway.handlers.object_read import ObjectReadHandlers
from gateway.handlers.object_tagging import ObjectTaggingHandlers
from gateway.handlers.object_write import ObjectWriteHandlers
from gateway.handlers.post_object import PostObjectHandlers
from gateway.handlers.registry import collect
from gateway.handlers.unconfigured import UnconfiguredHandlers
from gateway.s3.registry_doc import render
from metaservice.config import MetaServiceConfig
from storagenode.config import StorageNodeConfig
from workers.config import WorkersConfig

RESOURCES = (
    AclHandlers, BucketHandlers, DeleteHandlers, ListingHandlers, MultipartHandlers,
    ObjectReadHandlers, ObjectTaggingHandlers, ObjectWriteHandlers, PostObjectHandlers,
    UnconfiguredHandlers,
)  # fmt: skip
SERVICES = {
    "gateway": GatewayConfig,
    "metaservice": MetaServiceConfig,
    "storagenode": StorageNodeConfig,
    "workers": WorkersConfig,
}
INTRODUCTION = """# Configuration

Each process reads one TOML file (`ostraka gateway --config FILE`, and so on); in the environment
`OSTRAKA_FIELD=value` overrides a field, `OSTRAKA_SECTION__FIELD` one in a section. An unknown
setting, a wrong type or a missing value stops the start and names the field. A variable
`OSTRAKA_...` that is a setting of another process only is left to that one; one that nearly is a
setting stops the start and says which was meant; any other is ignored, and one line of the log
names it. (Kubernetes makes `OSTRAKA_PORT` and others for a service called `ostraka`: set
`enableServiceLinks: false`.) Secrets are files, never values. Annotated examples lie in
`deploy/config/`. `ostraka up` writes all of them itself, into `config/` of the cluster's folder.

This page is generated from the code: `make generate`.
"""


def s3() -> str:
    """docs/s3.md"""
    return render(collect(RESOURCES))


def configuration() -> str:
    """docs/configuration.md"""
    parts = [INTRODUCTION]
    for name, kind in SERVICES.items():
        parts.append(f"## {name}\n\n{describe(kind)}\n")
    return "\n".join(parts)


PAGES = {"s3.md": s3, "configuration.md": configuration}


def main() -> None:
    """Write all generated pages."""
    for name, page in PAGES.items():
        (Path("docs") / name).write_text(page())


if __name__ == "__main__":
    main()
