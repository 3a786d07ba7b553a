/*
 * dubcore for C++17: dubcore.h with owners instead of handles, exceptions instead of statuses, and ranges.
 *
 *     dubcore::Factory factory = dubcore::Factory::process();
 *     dubcore::Pipeline pipeline(factory, "en", "es");
 *     dubcore::Run run = pipeline.start(dubcore::Request::file("talk.mp4", "es", {{"from", "en"}, {"output", "talk.es.wav"}}));
 *     for (dubcore::Line &line : run)
 *         std::cout << line.target().text << "\n";
 *     dubcore::Result result = run.finish();
 *
 * What a call does, needs and refuses is said in dubcore.h, at the function of the same name; options are listed there, too.
 *
 * Owners    can be moved and not copied, and free what they own. One that was moved from owns nothing; calls on it throw.
 *           get() gives the handle, for functions of dubcore.h.
 * Errors    are thrown as dubcore::Error.
 * Texts     that are returned as std::string_view live as long as the object that gave them.
 * Threads   Objects may be used by several threads at once, as handles are; moving and destroying is for one.
 * Callbacks are functions of the host's own. What they throw fails the call concerned, and ends there.
 */

#ifndef DUBCORE_HPP
#define DUBCORE_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dubcore_owner.hpp"

namespace dubcore {

/** Keys and values: {{"from", "en"}, {"keep", "true"}}. */
class Options {
public:
    Options() = default;
    Options(std::initializer_list<std::pair<std::string, std::string>> pairs)
    {
        for (const auto &pair : pairs)
            set(pair.first, pair.second);
    }

    Options &set(std::string key, std::string value)
    {
        texts_.push_back(std::move(key));
        texts_.push_back(std::move(value));
        return *this;
    }

    /** As the functions of dubcore.h take them. */
    std::vector<const char *> pointers() const
    {
        std::vector<const char *> all = detail::pointers(texts_);
        all.push_back(nullptr);
        return all;
    }

private:
    std::vector<std::string> texts_;
};

/** The version of the loaded library. */
inline std::string_view version() { return dub_version(); }

/** A piece of work: see dub_job_new. */
class Job : public detail::Owner<dub_job, dub_job_free> {
public:
    /** Told how far it is; cancels the job by returning false, or by what it throws. */
    using Progress = std::function<bool(double fraction)>;

    explicit Job(std::chrono::duration<double> timeout = {}, Progress progress = {})
    {
        if (!progress) {
            detail::call(dub_job_new, timeout.count(), nullptr, nullptr, nullptr, place());
            return;
        }
        auto user = std::make_unique<Progress>(std::move(progress));
        detail::call(dub_job_new, timeout.count(), tell, user.get(), detail::destroy<Progress>, place());
        user.release();
    }

    void cancel() const { detail::call(dub_job_cancel, get()); }

    bool cancelled() const { return detail::ask<bool>(dub_job_cancelled, get()); }

    double progress() const { return detail::ask<double>(dub_job_progress, get()); }

    /** How far each part is, as JSON. */
    std::string parts() const { return detail::text_of(get(), dub_job_parts); }

private:
    static std::int32_t tell(void *user, double fraction) noexcept
    {
        try {
            return (*static_cast<Progress *>(user))(fraction) ? 0 : 1;
        } catch (...) {
            return 1;
        }
    }
};

/** A job, if there is one. */
using JobRef = const Job *;

namespace detail {
inline dub_job of(JobRef job) noexcept { return job ? job->get() : dub_job{}; }
} // namespace detail

/** Frames of one channel, which live as long as the Audio that gave them. */
struct Frames {
    const float *data = nullptr;
    std::size_t count = 0;
    std::uint32_t rate = 0;

    const float *begin() const noexcept { return data; }
    const float *end() const noexcept { return data + count; }
    double duration() const noexcept { return rate ? static_cast<double>(count) / rate : 0; }
};

/** Sound. */
class Audio : public detail::Owner<dub_audio, dub_audio_free> {
public:
    Audio() = default;
    explicit Audio(dub_audio handle) noexcept : Owner(handle) {}

    Audio(const float *samples, std::size_t count, std::uint32_t rate)
    {
        detail::call(dub_audio_new, samples, count, rate, place());
    }

    static Audio load(const std::string &path, const Options &options = {}, JobRef job = nullptr)
    {
        Audio audio;
        detail::call(dub_audio_load, path.c_str(), options.pointers().data(), detail::of(job), audio.place());
        return audio;
    }

    static Audio decode(const void *bytes, std::size_t length, const Options &options = {}, JobRef job = nullptr)
    {
        Audio audio;
        detail::call(dub_audio_decode, static_cast<const std::uint8_t *>(bytes), length, options.pointers().data(),
                     detail::of(job), audio.place());
        return audio;
    }

    Frames frames() const
    {
        Frames frames;
        detail::call(dub_audio_samples, get(), &frames.data, &frames.count, &frames.rate);
        return frames;
    }

    Audio slice(double start, double end) const
    {
        Audio part;
        detail::call(dub_audio_slice, get(), start, end, part.place());
        return part;
    }

    Audio resample(std::uint32_t rate) const
    {
        Audio audio;
        detail::call(dub_audio_resample, get(), rate, audio.place());
        return audio;
    }

    void save(const std::string &path, const Options &options = {}) const
    {
        detail::call(dub_audio_save, get(), path.c_str(), options.pointers().data());
    }
};

/** A text and when it is said or heard, in seconds. */
struct Timed {
    double start = 0;
    double end = 0;
    std::string_view text;
    /** How many words of it are known. */
    std::size_t words = 0;
};

/** A word; its probability is NaN where it is not known. */
struct Word {
    double start = 0;
    double end = 0;
    std::string_view text;
    double probability = 0;
};

/** What was said in a sound. */
class Transcript : public detail::Owner<dub_transcript, dub_transcript_free> {
public:
    std::string_view language() const { return texts().first; }
    std::string_view text() const { return texts().second; }

    std::size_t size() const { return detail::ask<std::size_t>(dub_transcript_count, get()); }

    Timed segment(std::size_t index) const
    {
        Timed segment;
        const char *text = nullptr;
        detail::call(dub_transcript_segment, get(), index, &segment.start, &segment.end, &text, &segment.words);
        segment.text = text;
        return segment;
    }

    Word word(std::size_t segment, std::size_t index) const
    {
        Word word;
        const char *text = nullptr;
        detail::call(dub_transcript_word, get(), segment, index, &word.start, &word.end, &text, &word.probability);
        word.text = text;
        return word;
    }

    std::string_view json() const { return detail::ask<const char *>(dub_transcript_json, get()); }

private:
    friend class Stt;

    std::pair<std::string_view, std::string_view> texts() const
    {
        const char *language = nullptr, *text = nullptr;
        detail::call(dub_transcript_text, get(), &language, &text);
        return {language, text};
    }
};

/** Translations of several texts; one that failed throws when it is asked for. */
class Translations : public detail::Owner<dub_translations, dub_translations_free> {
public:
    std::size_t size() const { return detail::ask<std::size_t>(dub_translations_count, get()); }

    std::string_view operator[](std::size_t index) const
    {
        const char *text = nullptr;
        double score = 0;
        detail::call(dub_translations_text, get(), index, &text, &score);
        return text;
    }

    std::string_view json(std::size_t index) const
    {
        return detail::ask<const char *>(dub_translations_json, get(), index);
    }

private:
    friend class Translator;
};

/** What a voice made of several texts; one that failed throws when it is asked for. */
class Speeches : public detail::Owner<dub_speeches, dub_speeches_free> {
public:
    std::size_t size() const { return detail::ask<std::size_t>(dub_speeches_count, get()); }

    Audio operator[](std::size_t index) const
    {
        dub_audio audio{};
        std::size_t words = 0;
        detail::call(dub_speeches_audio, get(), index, &audio, &words);
        return Audio(audio);
    }

private:
    friend class Tts;
};

/** What a recogniser of the host's own is asked. */
struct Heard {
    Frames frames;
    /** A code, or empty where it is not known. */
    std::string_view language;
};

/** Loads models: see dub_factory. */
class Factory : public detail::Owner<dub_factory, dub_factory_free> {
public:
    /** A piece of what is heard. */
    struct Piece {
        double start;
        double end;
        std::string text;
    };
    using Transcribe = std::function<std::vector<Piece>(const Heard &)>;
    using Translate = std::function<std::string(std::string_view text, std::string_view from, std::string_view to)>;
    /** Gives samples and their rate. */
    using Synthesize =
        std::function<std::pair<std::vector<float>, std::uint32_t>(std::string_view text, std::string_view language, double rate)>;

    /** Settings that are not given come from the environment, then from the defaults. */
    explicit Factory(const Options &settings = {})
    {
        detail::call(dub_factory_new, settings.pointers().data(), place());
    }

    /** The process's own. */
    static Factory process()
    {
        dub_factory handle{};
        detail::call(dub_factory_default, &handle);
        return Factory(handle);
    }

    void preload(const std::vector<std::string> &models, const Options &options = {}, JobRef job = nullptr) const
    {
        const std::vector<const char *> names = detail::pointers(models);
        detail::call(dub_factory_preload, get(), names.data(), names.size(), options.pointers().data(),
                     detail::of(job));
    }

    void unload(const std::string &model, JobRef job = nullptr) const
    {
        detail::call(dub_factory_unload, get(), model.c_str(), detail::of(job));
    }

    /** Drops every model. */
    void clear(JobRef job = nullptr) const { detail::call(dub_factory_unload, get(), nullptr, detail::of(job)); }

    bool pin(const std::string &model, bool pinned = true) const
    {
        return detail::ask<bool>(dub_factory_pin, get(), model.c_str(), pinned);
    }

    std::size_t sweep() const { return detail::ask<std::size_t>(dub_factory_sweep, get()); }

    void clear_results() const { detail::call(dub_factory_clear_results, get()); }

    std::string status() const { return detail::text_of(get(), dub_factory_status); }
    std::string health() const { return detail::text_of(get(), dub_factory_health); }
    std::string metrics() const { return detail::text_of(get(), dub_factory_metrics); }

    /** Makes a function the recogniser of that name. Several threads may call it at once. */
    void add_stt(const std::string &name, Transcribe transcribe, const Options &options = {}) const
    {
        dub_transcribe_fn call = [](void *user, dub_reply reply, const float *samples, std::size_t count, std::uint32_t rate,
                                    const char *language) {
            return detail::answer(reply, [&] {
                const Heard heard{Frames{samples, count, rate}, language ? language : ""};
                for (const Piece &piece : (*static_cast<Transcribe *>(user))(heard))
                    detail::call(dub_reply_segment, reply, piece.start, piece.end, piece.text.c_str());
            });
        };
        add(name, std::move(transcribe), options, dub_factory_add_stt, call);
    }

    /** Makes a function the translator of that name. */
    void add_translator(const std::string &name, Translate translate, const Options &options = {}) const
    {
        dub_translate_fn call = [](void *user, dub_reply reply, const char *text, const char *from, const char *to) {
            return detail::answer(reply, [&] {
                const std::string answer = (*static_cast<Translate *>(user))(text, from, to);
                detail::call(dub_reply_text, reply, answer.c_str());
            });
        };
        add(name, std::move(translate), options, dub_factory_add_translator, call);
    }

    /** Makes a function the voice of that name. */
    void add_tts(const std::string &name, Synthesize synthesize, const Options &options = {}) const
    {
        dub_synthesize_fn call = [](void *user, dub_reply reply, const char *text, const char *language, double rate,
                                    std::size_t) {
            return detail::answer(reply, [&] {
                const auto sound = (*static_cast<Synthesize *>(user))(text, language ? language : "", rate);
                detail::call(dub_reply_audio, reply, sound.first.data(), sound.first.size(), sound.second);
            });
        };
        add(name, std::move(synthesize), options, dub_factory_add_tts, call);
    }

private:
    explicit Factory(dub_factory handle) noexcept : Owner(handle) {}

    template <class Function, class Add, class Callback>
    void add(const std::string &name, Function function, const Options &options, Add add, Callback callback) const
    {
        auto user = std::make_unique<Function>(std::move(function));
        detail::call(add, get(), name.c_str(), options.pointers().data(), callback, user.get(),
                     detail::destroy<Function>);
        // The library deletes it.
        user.release();
    }
};

/** A recogniser. */
class Stt : public detail::Owner<dub_stt, dub_stt_free> {
public:
    Stt(const Factory &factory, const std::string &model, const Options &options = {}, JobRef job = nullptr)
    {
        detail::call(dub_stt_load, factory.get(), model.c_str(), options.pointers().data(), detail::of(job), place());
    }

    std::string info() const { return detail::text_of(get(), dub_stt_info); }

    Transcript transcribe(const Audio &audio, const Options &options = {}, JobRef job = nullptr) const
    {
        Transcript transcript;
        detail::call(dub_stt_transcribe, get(), audio.get(), options.pointers().data(), detail::of(job),
                     transcript.place());
        return transcript;
    }
};

/** A translator. */
class Translator : public detail::Owner<dub_translator, dub_translator_free> {
public:
    Translator(const Factory &factory, const std::string &model, const Options &options = {}, JobRef job = nullptr)
    {
        detail::call(dub_translator_load, factory.get(), model.c_str(), options.pointers().data(), detail::of(job),
                     place());
    }

    std::string info() const { return detail::text_of(get(), dub_translator_info); }

    Translations translate(const std::vector<std::string> &texts, const std::string &from, const std::string &to,
                           const Options &options = {}, JobRef job = nullptr) const
    {
        Translations translations;
        const std::vector<const char *> all = detail::pointers(texts);
        detail::call(dub_translator_translate, get(), all.data(), all.size(), from.c_str(), to.c_str(),
                     options.pointers().data(), detail::of(job), translations.place());
        return translations;
    }
};

/** A voice. */
class Tts : public detail::Owner<dub_tts, dub_tts_free> {
public:
    Tts(const Factory &factory, const std::string &model, const Options &options = {}, JobRef job = nullptr)
    {
        detail::call(dub_tts_load, factory.get(), model.c_str(), options.pointers().data(), detail::of(job), place());
    }

    std::string info() const { return detail::text_of(get(), dub_tts_info); }

    Speeches synthesize(const std::vector<std::string> &texts, const Options &options = {}, JobRef job = nullptr) const
    {
        Speeches speeches;
        const std::vector<const char *> all = detail::pointers(texts);
        detail::call(dub_tts_synthesize, get(), all.data(), all.size(), options.pointers().data(), detail::of(job),
                     speeches.place());
        return speeches;
    }

    /** Seconds, where the voice can tell before speaking. */
    std::optional<double> duration(const std::string &text, const Options &options = {}, JobRef job = nullptr) const
    {
        double seconds = 0;
        detail::call(dub_tts_duration, get(), text.c_str(), options.pointers().data(), detail::of(job), &seconds);
        return seconds < 0 ? std::nullopt : std::optional<double>(seconds);
    }
};

/** What to dub, and how. */
class Request : public detail::Owner<dub_request, dub_request_free> {
public:
    static Request file(const std::string &path, const std::string &to, const Options &options = {})
    {
        Request request;
        detail::call(dub_request_file, path.c_str(), to.c_str(), options.pointers().data(), request.place());
        return request;
    }

    static Request bytes(const void *bytes, std::size_t length, const std::string &to, const Options &options = {})
    {
        Request request;
        detail::call(dub_request_bytes, static_cast<const std::uint8_t *>(bytes), length, to.c_str(),
                     options.pointers().data(), request.place());
        return request;
    }

    static Request audio(const Audio &audio, const std::string &to, const Options &options = {})
    {
        Request request;
        detail::call(dub_request_audio, audio.get(), to.c_str(), options.pointers().data(), request.place());
        return request;
    }

    /** Adds a line that is spoken instead of what is heard. */
    Request &add_line(double start, double end, const std::string &source, const std::optional<std::string> &target = {})
    {
        detail::call(dub_request_add_line, get(), start, end, source.c_str(), detail::text_or_null(target));
        return *this;
    }
};

/** A line of a dub. One that failed throws why, when it is asked for what it says. */
class Line : public detail::Owner<dub_line, dub_line_free> {
public:
    /** Throws why it failed, if it did. */
    void check() const { detail::call(dub_line_outcome, get()); }

    bool failed() const noexcept { return dub_line_outcome(get(), nullptr) != DUB_STATUS_OK; }

    std::size_t index() const { return read().first; }
    /** What the original says. */
    Timed source() const { return read().second; }

    Word word(std::size_t index) const
    {
        Word word;
        const char *text = nullptr;
        detail::call(dub_line_word, get(), index, &word.start, &word.end, &text, &word.probability);
        word.text = text;
        return word;
    }

    /** What the dub says. */
    Timed target() const
    {
        Timed target;
        const char *text = nullptr;
        detail::call(dub_line_target, get(), &target.start, &target.end, &text);
        target.text = text;
        return target;
    }

    /** Its speech; owns nothing where there is none. */
    Audio audio() const
    {
        dub_audio audio{};
        detail::call(dub_line_audio, get(), &audio);
        return Audio(audio);
    }

    std::string_view json() const { return detail::ask<const char *>(dub_line_json, get()); }

private:
    friend class Run;
    friend class Result;

    std::pair<std::size_t, Timed> read() const
    {
        std::size_t index = 0;
        Timed source;
        const char *text = nullptr;
        detail::call(dub_line_source, get(), &index, &source.start, &source.end, &text, &source.words);
        source.text = text;
        return {index, source};
    }
};

/** Bytes, which live as long as the object that gave them. */
struct Bytes {
    const std::uint8_t *data = nullptr;
    std::size_t size = 0;

    const std::uint8_t *begin() const noexcept { return data; }
    const std::uint8_t *end() const noexcept { return data + size; }
};

/** What became of a dub. */
class Result : public detail::Owner<dub_result, dub_result_free> {
public:
    bool complete() const { return ends().first; }
    bool cut_short() const { return ends().second; }

    /** How many lines were dubbed. */
    std::size_t size() const { return counts()[0]; }
    std::size_t failures() const { return counts()[1]; }

    Line operator[](std::size_t index) const
    {
        Line line;
        detail::call(dub_result_line, get(), index, line.place());
        return line;
    }

    Line failure(std::size_t index) const
    {
        Line line;
        detail::call(dub_result_failed, get(), index, line.place());
        return line;
    }

    std::vector<std::string> files() const
    {
        std::vector<std::string> all;
        const std::size_t count = counts()[2];
        for (std::size_t i = 0; i < count; i++) {
            const char *path = nullptr;
            detail::call(dub_result_file, get(), i, &path);
            all.emplace_back(path);
        }
        return all;
    }

    /** The WAV file, if it was kept in memory; else empty. */
    Bytes track() const
    {
        Bytes track;
        detail::call(dub_result_track, get(), &track.data, &track.size);
        return track;
    }

    std::string_view srt(const std::string &language) const
    {
        return detail::ask<const char *>(dub_result_srt, get(), language.c_str());
    }

    std::string_view vtt(const std::string &language) const
    {
        return detail::ask<const char *>(dub_result_vtt, get(), language.c_str());
    }

    std::string_view report() const { return detail::ask<const char *>(dub_result_report, get()); }

    void save(const std::string &folder, const std::string &stem) const
    {
        detail::call(dub_result_save, get(), folder.c_str(), stem.c_str());
    }

private:
    friend class Run;

    std::pair<bool, bool> ends() const
    {
        bool complete = false, cut_short = false;
        detail::call(dub_result_complete, get(), &complete, &cut_short);
        return {complete, cut_short};
    }

    std::vector<std::size_t> counts() const
    {
        std::vector<std::size_t> found(3);
        detail::call(dub_result_counts, get(), &found[0], &found[1], &found[2]);
        return found;
    }
};

/** A dub in progress: a range of lines, computed as they are asked for. */
class Run : public detail::Owner<dub_run, dub_run_free> {
public:
    /** The next line, or nothing at the end. */
    std::optional<Line> next() const
    {
        Line line;
        if (detail::call(dub_run_next, get(), line.place()) == DUB_STATUS_END)
            return std::nullopt;
        return line;
    }

    /** Computes what is left, and completes the output. */
    Result finish() const
    {
        Result result;
        detail::call(dub_run_finish, get(), result.place());
        return result;
    }

    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Line;
        using difference_type = std::ptrdiff_t;
        using pointer = Line *;
        using reference = Line &;

        Iterator() = default;
        explicit Iterator(const Run &run) : run_(&run) { ++*this; }

        reference operator*() { return *line_; }
        pointer operator->() { return &*line_; }
        Iterator &operator++()
        {
            line_ = run_->next();
            if (!line_)
                run_ = nullptr;
            return *this;
        }
        bool operator==(const Iterator &other) const noexcept { return run_ == other.run_; }
        bool operator!=(const Iterator &other) const noexcept { return run_ != other.run_; }

    private:
        const Run *run_ = nullptr;
        std::optional<Line> line_;
    };

    Iterator begin() const { return Iterator(*this); }
    Iterator end() const { return Iterator(); }

private:
    friend class Pipeline;
};

/** A recogniser, a translator and a voice put together. */
class Pipeline : public detail::Owner<dub_pipeline, dub_pipeline_free> {
public:
    /** Of models that are named in the options, or chosen by language; `from` is nothing where it is not known. */
    Pipeline(const Factory &factory, const std::optional<std::string> &from, const std::string &to, const Options &options = {},
             JobRef job = nullptr)
    {
        detail::call(dub_pipeline_load, factory.get(), detail::text_or_null(from), to.c_str(),
                     options.pointers().data(), detail::of(job), place());
    }

    /** Of stages; without a voice it translates, without a translator too it transcribes. */
    explicit Pipeline(const Stt &stt, const Translator *translator = nullptr, const Tts *tts = nullptr)
    {
        detail::call(dub_pipeline_new, stt.get(), translator ? translator->get() : dub_translator{},
                     tts ? tts->get() : dub_tts{}, place());
    }

    Run start(const Request &request, JobRef job = nullptr) const
    {
        Run run;
        detail::call(dub_run_start, get(), request.get(), detail::of(job), run.place());
        return run;
    }
};

/** Told of what the library logs. */
using Log = std::function<void(std::string_view level, std::string_view target, std::string_view message)>;

/** Sends what is logged, from `level` up, to a function; nothing ends it. */
inline void log(const std::string &level, Log function)
{
    if (!function) {
        detail::call(dub_log, level.c_str(), nullptr, nullptr, nullptr);
        return;
    }
    auto user = std::make_unique<Log>(std::move(function));
    dub_log_fn tell = [](void *user, const char *level, const char *target, const char *message) {
        try {
            (*static_cast<Log *>(user))(level, target, message);
        } catch (...) {
            // A log that fails has nobody to tell.
        }
    };
    detail::call(dub_log, level.c_str(), tell, user.get(), detail::destroy<Log>);
    user.release();
}

} // namespace dubcore

#endif
