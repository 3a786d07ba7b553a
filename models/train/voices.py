"""Speech from free synthesisers, in process where they have a library: espeak-ng, flite, RHVoice, SVOX Pico, festival.

`random_voice` speaks English with the voices of the training, `random_spanish` Spanish. Those of `heldout.UNHEARD` are for
tests alone. Waveforms are mono float32 at 16 kHz.
"""

import ctypes as c
import os
import subprocess
import tempfile
import wave
from math import exp, gcd

import numpy as np
from scipy.signal import resample_poly

RATE = 16000
ESPEAK_DATA = os.environ.get("ESPEAK_DATA")  # the folder that holds espeak-ng-data, where it is not the usual one
RHVOICE_DATA = os.environ.get("RHVOICE_DATA", "/usr/share/RHVoice")
RHVOICE_CONFIG = os.environ.get("RHVOICE_CONFIG", "/etc/RHVoice")


def at_16k(x, rate):
    if rate == RATE:
        return x.astype(np.float32)
    g = gcd(RATE, rate)
    return resample_poly(x, RATE // g, rate // g).astype(np.float32)


def _float(samples):
    return np.asarray(samples, np.float32) / 32768


def read(path):
    """The samples of a mono WAV file of 16 bits, and their rate."""
    with wave.open(path) as f:
        return _float(np.frombuffer(f.readframes(f.getnframes()), "<i2")), f.getframerate()


def _scratch(name):
    """Where a program of this process puts its sound."""
    return os.path.join("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir(), f"{name}-{os.getpid()}.wav")


class Espeak:
    """espeak-ng through its callback interface."""

    ACCENTS = ["en-us"] * 5 + ["en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc"]
    SPEAKERS = (
        "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f5 klatt klatt2 klatt3 klatt4 adam Alex Alicia Andrea Andy Annie anika antonio belinda benjamin boris caleb "
        "david edward Gene Henrique Hugo iven Jacky john Lee linda Marco max Michael michel Mike norbert pablo paul pedro quincy rob robert sandro "
        "shelby steph travis victor zac Diogo"
    ).split()
    RATE_PARAMETER, PITCH_PARAMETER, RANGE_PARAMETER = 1, 3, 4

    def __init__(self):
        self.lib = c.CDLL("libespeak-ng.so.1")
        self.rate = self.lib.espeak_Initialize(2, 0, ESPEAK_DATA.encode() if ESPEAK_DATA else None, 0)
        assert self.rate > 0, "espeak-ng finds no data"
        self.chunks, self.voice = [], None

        def receive(samples, count, _events):
            if samples and count > 0:
                self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        self.callback = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.c_void_p)(receive)
        self.lib.espeak_SetSynthCallback(self.callback)

    def __call__(self, text, voice="en-us", rate=165, pitch=50, pitch_range=50):
        if voice != self.voice:
            self.lib.espeak_SetVoiceByName(voice.encode())
            self.voice = voice
        for parameter, value in ((self.RATE_PARAMETER, rate), (self.PITCH_PARAMETER, pitch), (self.RANGE_PARAMETER, pitch_range)):
            self.lib.espeak_SetParameter(parameter, int(value), 0)
        self.chunks.clear()
        data = text.encode() + b"\0"
        self.lib.espeak_Synth(data, c.c_size_t(len(data)), 0, 1, 0, 1, None, None)
        self.lib.espeak_Synchronize()
        return at_16k(_float(np.concatenate(self.chunks)), self.rate)


class _CstWave(c.Structure):
    _fields_ = [("type", c.c_char_p), ("rate", c.c_int), ("count", c.c_int), ("channels", c.c_int), ("samples", c.POINTER(c.c_short))]


class Flite:
    """flite's four voices for American and Scottish English, with the pace and the mean pitch set."""

    PITCH = {"slt": 172, "rms": 100, "awb": 120, "kal16": 95}

    def __init__(self):
        self.lib = c.CDLL("libflite.so.1", mode=c.RTLD_GLOBAL)
        for name in ("usenglish", "cmulex"):
            c.CDLL(f"libflite_{name}.so.1", mode=c.RTLD_GLOBAL)
        self.lib.flite_init()
        self.voices = {}
        for name in self.PITCH:
            register = getattr(c.CDLL(f"libflite_cmu_us_{name}.so.1", mode=c.RTLD_GLOBAL), f"register_cmu_us_{name}")
            register.restype, register.argtypes = c.c_void_p, [c.c_char_p]
            self.voices[name] = register(None)
        self.lib.flite_text_to_wave.restype, self.lib.flite_text_to_wave.argtypes = c.POINTER(_CstWave), [c.c_char_p, c.c_void_p]
        self.lib.feat_set_float.argtypes = [c.c_void_p, c.c_char_p, c.c_float]
        self.lib.delete_wave.argtypes = [c.POINTER(_CstWave)]

    def __call__(self, text, voice="slt", stretch=1.0, pitch=None):
        handle = self.voices[voice]
        # struct cst_voice begins with its name and its features
        features = c.cast(handle + c.sizeof(c.c_void_p), c.POINTER(c.c_void_p))[0]
        self.lib.feat_set_float(features, b"duration_stretch", stretch)
        self.lib.feat_set_float(features, b"int_f0_target_mean", pitch or self.PITCH[voice])
        out = self.lib.flite_text_to_wave(text.encode(), handle)
        x, rate = _float(np.ctypeslib.as_array(out.contents.samples, (out.contents.count,)).copy()), out.contents.rate
        self.lib.delete_wave(out)
        return at_16k(x, rate)


class _RhParams(c.Structure):
    _fields_ = [("voice", c.c_char_p)] + [(n, c.c_double) for n in ("abs_rate", "abs_pitch", "abs_volume", "rate", "pitch", "volume")]
    _fields_ += [("punctuation", c.c_int), ("punctuation_list", c.c_char_p), ("capitals", c.c_int), ("flags", c.c_int)]


class _RhCallbacks(c.Structure):
    _fields_ = [("set_sample_rate", c.c_void_p), ("play", c.c_void_p)] + [(f"unused{i}", c.c_void_p) for i in range(7)]


class _RhInit(c.Structure):
    _fields_ = [("data", c.c_char_p), ("config", c.c_char_p), ("resources", c.c_void_p), ("callbacks", _RhCallbacks), ("options", c.c_uint)]


class RHVoice:
    """RHVoice's English voices under the LGPL."""

    VOICES = ("alan", "clb", "slt")

    def __init__(self):
        self.lib, self.rate, self.chunks = c.CDLL("libRHVoice.so.5"), 24000, []

        def set_rate(rate, _user):
            self.rate = rate
            return 1

        def play(samples, count, _user):
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 1

        self.kept = (c.CFUNCTYPE(c.c_int, c.c_int, c.c_void_p)(set_rate), c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_uint, c.c_void_p)(play))
        calls = _RhCallbacks()
        calls.set_sample_rate, calls.play = (c.cast(f, c.c_void_p) for f in self.kept)
        self.init = _RhInit(RHVOICE_DATA.encode(), RHVOICE_CONFIG.encode(), None, calls, 0)
        self.lib.RHVoice_new_tts_engine.restype = c.c_void_p
        self.engine = self.lib.RHVoice_new_tts_engine(c.byref(self.init))
        assert self.engine, "RHVoice finds no data"
        self.lib.RHVoice_new_message.restype = c.c_void_p
        self.lib.RHVoice_new_message.argtypes = [c.c_void_p, c.c_char_p, c.c_uint, c.c_int, c.POINTER(_RhParams), c.c_void_p]
        self.lib.RHVoice_speak.argtypes = self.lib.RHVoice_delete_message.argtypes = [c.c_void_p]

    def __call__(self, text, voice="alan", rate=1.0, pitch=1.0):
        params = _RhParams(voice.encode(), 0, 0, 0, rate, pitch, 1.0, 0, None, 0, 0)
        data = text.encode()
        self.chunks.clear()
        message = self.lib.RHVoice_new_message(self.engine, data, len(data), 0, c.byref(params), None)
        assert message, f"RHVoice refuses {text!r}"
        self.lib.RHVoice_speak(message)
        self.lib.RHVoice_delete_message(message)
        return at_16k(_float(np.concatenate(self.chunks)), self.rate)


class Pico:
    """SVOX Pico through its command."""

    def __init__(self):
        self.path = _scratch("pico")

    def __call__(self, text, language="en-US", rate=100, pitch=100):
        plain = text.replace("&", "and").replace("<", "")
        marked = f'<speed level="{int(rate)}"><pitch level="{int(pitch)}">{plain}</pitch></speed>'
        subprocess.run(["pico2wave", "-l", language, "-w", self.path, marked], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return at_16k(*read(self.path))


class Festival:
    """festival with one of its voices, through a process that stays. kal is for the training, the others are for tests."""

    def __init__(self, voice="voice_kal_diphone"):
        self.path = _scratch(f"festival-{voice}")
        self.process = subprocess.Popen(["festival", "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._ask(f"(Parameter.set 'Audio_Method 'none) (require 'f2bdurtreeZ) ({voice})")

    def _ask(self, commands):
        self.process.stdin.write(f'{commands} (format t "done\\n") (fflush nil)\n')
        self.process.stdin.flush()
        for line in self.process.stdout:
            if "done" in line:
                return
        raise ChildProcessError("festival has ended")

    def timing(self, r):
        """Settings for a timing that no voice has: kal's usual length of every phone times a factor of its own, spread by a
        tree of kal's or of the radio speaker f2b; vowels without stress reduced or not."""
        tree, reduced = r.choice(["kal", "f2b"]), r.choice(["postlex_vowel_reduce_cart_data", "nil"])
        spread = r.uniform(0, 0.35)
        factors = " ".join(f"{exp(r.gauss(0, spread)):.2f}" for _ in range(80))
        return (
            f"(set! factors '({factors})) (set! duration_cart_tree {tree}_duration_cart_tree) (set! postlex_vowel_reduce_cart_tree {reduced})"
            " (set! duration_ph_info (mapcar (lambda (phone) (set! factors (cdr factors))"
            " (list (car phone) (* (car factors) (cadr phone)) (* (car factors) (caddr phone)))) kal_durs))"
        )

    def __call__(self, text, stretch=None, pitch=None, spread=14, settings=""):
        plain = text.replace('"', "").replace("\\", "")
        # Without any a voice keeps its own.
        if stretch:
            settings += f" (Parameter.set 'Duration_Stretch {stretch:.3f})"
        if pitch:
            settings += f" (set! int_lr_params '((target_f0_mean {pitch:.0f}) (target_f0_std {spread:.0f}) (model_f0_mean 170) (model_f0_std 34)))"
        self._ask(f"{settings} (utt.save.wave (utt.synth (Utterance Text \"{plain}\")) \"{self.path}\" 'riff)")
        samples = read(self.path)
        # A sentence that festival stumbles over must not sound like the one before.
        os.remove(self.path)
        return at_16k(*samples)


_ENGINES = {}


def engine(kind, *settings):
    """The engine of that class, made once per process."""
    if (kind, settings) not in _ENGINES:
        _ENGINES[kind, settings] = kind(*settings)
    return _ENGINES[kind, settings]


def _random_espeak(r, accents):
    name = r.choice(accents) + (f"+{r.choice(Espeak.SPEAKERS)}" if r.random() < 0.9 else "")
    rate, pitch, spread = r.uniform(125, 200), min(99, max(5, r.gauss(50, 15))), r.uniform(30, 75)
    return f"espeak-ng {name}", lambda t: engine(Espeak)(t, name, rate, pitch, spread)


def random_voice(r):
    """A voice of the training with its settings: its name and a function from text to waveform."""
    u = r.random()
    if u < 0.21:
        return _random_espeak(r, Espeak.ACCENTS)
    if u < 0.45:
        name = r.choice(["slt", "slt", "rms", "rms", "awb", "awb", "kal16"])
        stretch, pitch = r.uniform(0.82, 1.25), Flite.PITCH[name] * r.uniform(0.85, 1.18)
        return f"flite {name}", lambda t: engine(Flite)(t, name, stretch, pitch)
    if u < 0.61:
        name, rate, pitch = r.choice(["en-US", "en-GB"]), r.uniform(80, 128), r.uniform(78, 125)
        return f"pico {name}", lambda t: engine(Pico)(t, name, rate, pitch)
    if u < 0.85:
        stretch, pitch, spread = r.uniform(0.8, 1.25), 105 * r.uniform(0.8, 1.3), r.uniform(5, 30)
        return "festival kal", lambda t: engine(Festival)(t, stretch, pitch, spread, engine(Festival).timing(r))
    name, rate, pitch = r.choice(RHVoice.VOICES), r.uniform(0.85, 1.25), r.uniform(0.85, 1.18)
    return f"rhvoice {name}", lambda t: engine(RHVoice)(t, name, rate, pitch)


def random_spanish(r):
    """The same in Spanish."""
    if r.random() < 0.35:
        return _random_espeak(r, ["es", "es", "es-419"])
    rate, pitch = r.uniform(80, 130), r.uniform(75, 130)
    return "pico es-ES", lambda t: engine(Pico)(t, "es-ES", rate, pitch)


def trim(x, threshold=0.01, keep=480):
    """Without the silence at both ends."""
    loud = np.flatnonzero(np.abs(x) > threshold * np.abs(x).max(initial=1e-3))
    return x[max(0, loud[0] - keep) : loud[-1] + keep] if len(loud) else x[:0]
