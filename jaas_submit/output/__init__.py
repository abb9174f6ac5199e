"""The output of containers on its way to its readers: live feeds, whole outputs, and which agent follows a node.

``Feeds`` has the lines of running containers, while somebody watches. ``WholeOutputs`` has the output of containers
that have exited, until a worker has stored it in the ledger. ``AgentLeases`` says which process follows the
containers of a node. ``FileTransfers`` has files of ended containers on their way to the store. It does not know
records, Celery, or the producers' client.

Like the ledger it writes by Lua scripts: the files in ``scripts``. docs/ledger.md lists its keys. All of it together
has a budget, a share of Redis' memory, so that output never makes a submission fail.
"""

from jaas_submit.output.budget import DEFAULT_SHARE, is_full, release_memory
from jaas_submit.output.ends import Ends
from jaas_submit.output.feeds import WINDOW_BYTES, Feeds, FeedView
from jaas_submit.output.leases import AgentLease, AgentLeases
from jaas_submit.output.packs import piece_cost
from jaas_submit.output.pieces import READING, FeedEnd, Gap, Piece, Wanted, WholeOutput
from jaas_submit.output.transfers import PIECE_BYTES, FilePiece, FileRequest, FileTransfers
from jaas_submit.output.whole import WholeOutputs

__all__ = [
    "DEFAULT_SHARE",
    "PIECE_BYTES",
    "READING",
    "WINDOW_BYTES",
    "AgentLease",
    "AgentLeases",
    "Ends",
    "FeedEnd",
    "FeedView",
    "Feeds",
    "FilePiece",
    "FileRequest",
    "FileTransfers",
    "Gap",
    "Piece",
    "Wanted",
    "WholeOutput",
    "WholeOutputs",
    "is_full",
    "piece_cost",
    "release_memory",
]
