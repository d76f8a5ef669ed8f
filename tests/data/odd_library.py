"""A NIfTI library that misbehaves as a voxel file tells it to, found before the real one."""

from textwrap import dedent

SOURCE = '''
import ctypes, os, sys, time

def Nifti1Header(block, check):
    """What a library may do to its process; the file's bytes from 4 on say which."""
    order = bytes(block[4:4 + 200]).split(b"\\0")[0].decode()
    kind, _, rest = order.partition(" ")
    if kind == "sleep":
        time.sleep(1000)
    elif kind == "spin":
        while True:
            pass
    elif kind == "crash":
        ctypes.string_at(0)
    elif kind == "exit":
        sys.exit(3)
    elif kind == "leave":
        os._exit(0)
    elif kind == "fill":
        import numpy
        numpy.ones(int(rest), "u1")
    elif kind == "recurse":
        return Nifti1Header(block, check)
    elif kind == "print":
        os.write(1, rest.encode())
        os.write(2, rest.encode())
        print(rest)
        print(rest, file=sys.stderr)
    elif kind == "swap":
        os.replace(rest + ".other", rest)
    raise ValueError(rest)
'''


def install(folder):
    """Write the library into a folder; `order` files make it act."""
    folder.mkdir(exist_ok=True)
    (folder / "nibabel.py").write_text(dedent(SOURCE))
    return folder


def order(path, what):
    """A file that makes the library do something: sleep, crash, exit, leave, fill N, print T."""
    header = (348).to_bytes(4, "little") + what.encode()
    path.write_bytes(header.ljust(400, b"\0"))
    return str(path)
