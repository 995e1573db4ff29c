"""LZF decompression, the codec of PCD's binary_compressed, without a compiled extension.

The stream is a row of tokens. A control byte below 32 announces that many bytes, plus one, to
copy from the input. Else its upper three bits are a length (7: one more byte adds to it), its
lower five and the next byte a distance back in the output; the copy is two bytes longer.
"""

from mprm_jax.errors import UserError

LITERAL_LIMIT = 32
LONG_MATCH = 7


def lzf_decompress(data: bytes, size: int) -> bytes:
    """Decompresses an LZF stream.

    Args:
      data: the compressed stream.
      size: bytes the result must have.

    Raises:
      ValueError: the stream is cut short or does not give `size` bytes.
    """
    output = bytearray()
    position = 0
    try:
        while position < len(data):
            if len(output) > size:
                raise UserError(f"decompressed to more than {size} bytes")
            control = data[position]
            position += 1
            if control < LITERAL_LIMIT:
                end = position + control + 1
                output += data[position:end]
                position = end
                continue
            length = control >> 5
            if length == LONG_MATCH:
                length += data[position]
                position += 1
            distance = ((control & 31) << 8) + data[position] + 1
            position += 1
            _repeat(output, distance, length + 2)
    except IndexError as error:
        raise UserError("the compressed data end in the middle of a token") from error
    if len(output) != size:
        raise UserError(f"decompressed to {len(output)} of {size} bytes")
    return bytes(output)


def _repeat(output: bytearray, distance: int, length: int) -> None:
    """Appends `length` bytes that lie `distance` back; the copy may run into itself."""
    start = len(output) - distance
    if start < 0:
        raise IndexError("a match starts before the output")
    if distance >= length:
        output += output[start : start + length]
        return
    pattern = output[start:]
    output += (pattern * (length // distance + 1))[:length]
