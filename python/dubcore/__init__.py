"""Speech in one language in, speech in another out.

>>> import dubcore
>>> result = dubcore.dub("talk.wav", to="es", out="dubs")
>>> for line in result.lines:
...     print(f"{line.start:.2f} {line.source} -> {line.target}")

Every function may be called from any thread and lets other Python threads run. Ctrl-C stops a call with
KeyboardInterrupt. What fails raises a subclass of dubcore.Error, whose `kind` names what went wrong.
"""

from ._dubcore import *  # noqa: F403 - the native module's __all__ is the list of public names
from ._dubcore import __all__ as __all__
from ._dubcore import __version__ as __version__
