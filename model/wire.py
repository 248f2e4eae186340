"""What client and server agree on: message types, record keys and how arrays become bytes. No flwr here."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np
from numpy.typing import NDArray

DESCRIBE = "query.describe"  # node -> who it plays, contracts, public keys
MATCH = "query.match"  # partner -> its set of persons, hidden and sealed for the lender, before it was shown anything
COHORT = "query.cohort"  # lender -> its cohort, sealed for each partner
PRESENCE = "query.presence"  # holder -> whom it has, sealed for the lender
HOMES = "query.homes"  # lender -> whose home each partner is, sealed for it
BINS = "train.bins"  # holder -> the noisy counts that its private bins are cut from
TRAIN = "train.block"  # holder -> the weights of its block
SUBSCORES = "query.subscores"  # holder -> its sub-scores, sealed for the lender
FUSE = "train.fusion"  # lender -> the fusion table

ROWS = "query.rows"  # holder -> one chunk of its masked rows, sealed for either computing party
DEAL = "query.deal"  # dealer -> masks' seeds, sealed for whom each is
CLOSE = "train.close"  # holder -> its own products and its noise, in shares sealed for either computing party
MULTIPLY = "query.multiply"  # second party -> nothing: it adds one chunk
OPEN = "train.open"  # second party -> its share of the noisy matrix, sealed for the coordinator
SUMS = "train.sums"  # holder -> its part of a step's log-odds, masked, and its noise
TABLES = "query.tables"  # dealer -> one chunk of a step's hidden tables, sealed for the second party
STEP = "train.step"  # second party -> its opening of one chunk, and at the end its share of the noisy gradient
FORGET = "query.forget"  # everybody -> nothing: what the joint fit kept is deleted

CONFIG = "config"  # the ConfigRecord of every message
ARRAYS = "arrays"  # the ArrayRecord, keys `<block>/<parameter>`
JSON = "json"  # its key of JSON text
SEALED, HOME = "sealed", "home"  # its keys of ciphertext
LENDERS = "lenders"  # its key of what the lender announced, JSON in bytes: it sealed what comes with it
ERROR = "error"  # in place of an answer: one of ERRORS
SIGNED = "signed"  # the ConfigRecord of a message's envelope: it covers everything else in the message
HEADER, SIGNATURE, VERIFY = "header", "signature", "verify"  # its keys: JSON text, and the sender's key
LAST, MEAN = "last", "mean"  # parameters of a block: where descent stands, and what to publish
COVARIANCE = "covariance"  # how sure a block of the joint fit is
COUNTS = "counts"  # of private bins, and of held-out scores

ERRORS = ("budget", "input", "ledger", "seal", "protocol", "internal", "replay", "log")
ABSENT = np.iinfo(np.int32).min  # a sub-score in micro-logit where the person has no relationship
TRAIN_ROWS, HELD_OUT = 0, 1  # groups of the cohort

MASK_KEYS = "query.maskkeys"  # holder -> its public keys of a secure sum, signed
MASK_SHARES = "query.maskshares"  # holder -> shares of its masks' seeds, in a box for each of the others
SUM_AGREE = "query.sumagree"  # holder -> its signature under the list of those whose vectors are in the sum
SUM_REVEAL = "query.sumreveal"  # holder -> the shares that open the sum
ADVERT, BOX, SHARE, SURVIVORS = "advert", "box", "share", "survivors"  # their keys of bytes
MASKED = "masked"  # key of a masked update, in place of its arrays

SCORE_SET = "query.scoreset"  # holder -> its set of persons, hidden, for a lender that has new applicants
APPLICANTS = "query.applicants"  # lender -> its applicants, hidden, sealed for each partner
SCORE = "query.score"  # holder -> its sub-scores of the applicants, sealed for the lender
SCORED = "query.scored"  # lender -> nothing: it fuses and writes the applicants' scores on its own disk
UNOPENED = "unopened"  # key of the names, by comma, whose answers it could not open


def pack(**arrays: NDArray[np.generic]) -> bytes:
    """Named arrays as bytes; `unpack` reads them without pickle.

    >>> unpack(pack(a=np.arange(3)))["a"].tolist()
    [0, 1, 2]
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, NDArray[np.generic]]:
    """The arrays that `pack` wrote; raises `ValueError` where they are none, whatever the bytes are.

    None may be compressed, nor claim to be larger than it lies there: else few bytes might fill the memory.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type for entry in entries):
                raise ValueError("arrays are compressed, as no honest ones are")
            if sum(entry.file_size for entry in entries) > len(data):
                raise ValueError("arrays are larger than what they came in")
            return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}
    except ValueError:
        raise
    except Exception as error:  # zipfile and numpy raise a dozen kinds for bytes that somebody made up
        raise ValueError(f"arrays cannot be read: {type(error).__name__}") from None


def _array(raw: bytes) -> NDArray[np.generic]:
    """One array of plain numbers or texts, once its bytes are seen to be all there."""
    file = io.BytesIO(raw)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is of another version")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "biufU" or not dtype.itemsize or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("an array is not of plain numbers")
    if math.prod(shape) * dtype.itemsize != len(raw) - file.tell():
        raise ValueError("an array is not as large as it says")
    file.seek(0)
    found: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def key(block: str, parameter: str) -> str:
    """The ArrayRecord key of one parameter of a block."""
    return f"{block}/{parameter}"
