"""Windows for the recogniser: which utterances lie where, what lies below them, and what the decoder has to write.

Runs in processes of its own, which know the corpus by its index alone; the samples stay with the trainer.
"""

import random
import re

import numpy as np

import figures

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
SHORT = (220, 300, 420, 600, 800)
WHOLE = 1000
IGNORED = -100


def letters(text):
    """The character targets of a transcript, from 1; 0 is CTC's blank."""
    words = figures.spoken(text) or text
    return [LETTERS.index(ch) + 1 for ch in re.sub(r"[^a-z' ]", "", words.lower().replace("-", " "))]


class Composer:
    def __init__(self, tokenizer, seconds, seed):
        ids = tokenizer.token_to_id
        self.encode = lambda text: tokenizer.encode(" " + text, add_special_tokens=False).ids
        self.end, self.nospeech = ids("<|endoftext|>"), ids("<|nospeech|>")
        self.start = [ids("<|startoftranscript|>"), ids("<|en|>"), ids("<|transcribe|>")]
        self.plain, self.zero = ids("<|notimestamps|>"), ids("<|0.00|>")
        self.seconds, self.r = seconds, random.Random(seed)
        self.speech, self.voices, self.sounds, self.music = [], {}, [], []

    def add(self, index):
        """index: (transcript or None, voice, frames, place in the bank)"""
        for text, voice, frames, place in index:
            if text is None:
                (self.music if voice == "music" else self.sounds).append((place, frames))
            else:
                self.voices.setdefault(voice, []).append(len(self.speech))
                self.speech.append((place, frames, self.encode(text), letters(text), voice))

    def _spans(self, frames, strength, whole):
        """The utterances of a window: (start, length, utterance, rate)."""
        r = self.r
        at = int(r.choice([0, 3, 8, 15, r.uniform(0, 60), r.uniform(0, 60), r.uniform(0, 0.5 * frames) if whole else 0]))
        several, out, written, voice = r.random() < (0.65 if whole else 0.45), [], 0, None
        for _ in range(30):
            u = r.choice(self.voices[voice]) if voice and r.random() < 0.6 else r.randrange(len(self.speech))
            rate = int(1000 * r.uniform(0.82, 1.2)) if r.random() < 0.5 * strength else 1000
            length = int((self.speech[u][1] - 1) * 1000 / rate)
            if at + length > frames - 3 or written + len(self.speech[u][2]) > 112:
                if out:
                    break
                at = min(at, 3)
                continue
            out.append((at, length, u, rate))
            at, written, voice = at + length, written + len(self.speech[u][2]) + 2, self.speech[u][4]
            if not several or r.random() < 0.2:
                break
            at += int(r.choice([r.uniform(5, 40), r.uniform(5, 40), r.uniform(30, 200)]))
        return out

    def _below(self, row, frames, silent, strength):
        """A sound under the window: its span and its level."""
        r = self.r
        if not self.music or r.random() >= (0.7 if silent else 0.3 * strength):
            return None
        place, length = r.choice(self.music if r.random() < 0.75 or not self.sounds else self.sounds)
        rate = int(1000 * r.uniform(0.8, 1.0))
        start = 0 if r.random() < 0.6 else int(r.uniform(0, 0.7 * frames))
        count = min(frames - start, int((length - 2) * 1000 / rate))
        first = int(r.uniform(0, max(0, length - 2 - count * rate / 1000)))
        return (row, start, count, place + first, rate, 0), (0.0 if silent else -r.choice([r.uniform(0.3, 1.2), r.uniform(0.8, 2.5)]))

    def _words(self, spans, whole):
        """What the decoder reads and writes."""
        r, s = self.r, self.start
        timed = whole and r.random() < 0.3
        if not spans:
            read = s + [self.zero if timed else self.plain, self.end]
            return read[:-1], [self.nospeech] + read[2:]
        if not timed:
            read = s + [self.plain] + [t for span in spans for t in self.speech[span[2]][2]] + [self.end]
        else:
            read = list(s)
            for at, length, u, _ in spans:
                read += [self.zero + min(500, round(at / 2))] + self.speech[u][2] + [self.zero + min(500, round((at + length) / 2))]
            read.append(self.end)
        return read[:-1], read[1:]

    def batch(self, whole, strength):
        """One batch of about `seconds` of sound, as arrays."""
        r = self.r
        frames = WHOLE if whole else r.choice(SHORT)
        rows = max(2, int(self.seconds * 100 / frames))
        spans, below, levels, silent, ends, reads, writes, chars, char_rows = [], [], [], [], [], [], [], [], []
        for row in range(rows):
            mine = self._spans(frames, strength, whole) if r.random() > 0.07 else []
            gain = r.uniform(-2.4, 0.5)
            spans += [(row, at, length, self.speech[u][0], rate, int(1000 * (gain + r.uniform(-0.2, 0.2)))) for at, length, u, rate in mine]
            silent.append(not mine)
            ends.append(mine[-1][0] + mine[-1][1] + int(r.uniform(2, 60)) if mine else frames)
            if sound := self._below(row, frames, not mine, strength):
                below.append(sound[0])
                levels.append((row, sound[1]))
            read, write = self._words(mine, whole)
            reads.append(read)
            writes.append(write)
            c = []
            for _, _, u, _ in mine:
                c += ([1] if c else []) + self.speech[u][3]
            if c and len(c) < frames // 2 - 5:
                chars.append(c)
                char_rows.append(row)
        longest = -(-max(map(len, reads)) // 8) * 8
        table = lambda lists, fill: np.array([x + [fill] * (longest - len(x)) for x in lists], np.int32)
        level = np.zeros(rows, np.float32)
        for row, value in levels:
            level[row] = value
        return {
            "rows": rows, "frames": frames, "spans": np.array(spans, np.int64).reshape(-1, 6), "below": np.array(below, np.int64).reshape(-1, 6), "level": level,
            "silent": np.array(silent), "ends": np.array(ends, np.int32), "read": table(reads, self.end), "write": table(writes, IGNORED),
            "chars": np.array([x for c in chars for x in c], np.int32), "char_lengths": np.array([len(c) for c in chars], np.int32), "char_rows": np.array(char_rows, np.int64),
        }


def serve(tokenizer_file, seconds, seed, news, batches):
    """The process: takes ("add", index) and ("mix", whole, strength) from `news`, puts batches."""
    from tokenizers import Tokenizer

    composer, whole, strength = Composer(Tokenizer.from_file(tokenizer_file), seconds, seed), 0.2, 0.5
    while True:
        while not news.empty() or not composer.speech:
            message = news.get()
            if message[0] == "add":
                composer.add(message[1])
            else:
                whole, strength = message[1:]
        batches.put(composer.batch(composer.r.random() < whole, strength))
