/*
 * One live object of every type, made of stages that are callbacks of this program, so that no call takes long. The
 * generated tests take their good arguments from here.
 */

#ifndef WORLD_H
#define WORLD_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dubcore.h"

static int checks, failures;

static inline void check(int holds, const char *what)
{
    checks++;
    if (!holds) {
        failures++;
        printf("FAILED %s\n", what);
    }
}

/* A call of the program's own that has to work, or nothing else means anything. */
static inline void must(dub_status status, dub_error *error, const char *what)
{
    if (status != DUB_STATUS_OK) {
        printf("FAILED %s: %s\n", what, dub_error_message(error));
        exit(3);
    }
}

static inline int32_t own_transcribe(void *user, dub_reply reply, const float *samples, size_t count, uint32_t rate,
                                     const char *language)
{
    (void)user;
    (void)samples;
    (void)language;
    return (int32_t)dub_reply_segment(reply, 0, (double)count / rate, "Hello there.", NULL);
}

static inline int32_t own_translate(void *user, dub_reply reply, const char *text, const char *from, const char *to)
{
    char answer[200];
    (void)user;
    snprintf(answer, sizeof answer, "%s>%s: %.100s", from, to, text);
    return (int32_t)dub_reply_text(reply, answer, NULL);
}

static inline int32_t own_synthesize(void *user, dub_reply reply, const char *text, const char *language,
                                     double speaking_rate, size_t speaker)
{
    static float tone[8000];
    size_t i;
    (void)user;
    (void)text;
    (void)language;
    (void)speaking_rate;
    (void)speaker;
    if (tone[1] == 0)
        for (i = 0; i < 8000; i++)
            tone[i] = 0.2f * (float)sin((double)i * 0.1);
    return (int32_t)dub_reply_audio(reply, tone, 8000, 16000, NULL);
}

static inline int32_t own_progress(void *user, double fraction)
{
    (void)user;
    (void)fraction;
    return 0;
}

static inline void own_log(void *user, const char *level, const char *target, const char *message)
{
    (void)user;
    (void)level;
    (void)target;
    (void)message;
}

static inline void own_destroy(void *user)
{
    (void)user;
}

struct world {
    const char *media, *scratch;
    char saved[600], out_dir[600];
    dub_text text;
    dub_job job;
    dub_audio audio;
    dub_factory factory;
    dub_preload preload;
    dub_stt stt;
    dub_translator translator;
    dub_tts tts;
    dub_transcript transcript;
    dub_translations translations;
    dub_speeches speeches;
    dub_pipeline pipeline;
    dub_request request;
    dub_run run;
    dub_line line;
    dub_result result;
    /* Live only while `in_reply` runs. */
    dub_reply reply;
    const char *texts[2];
    const char *models[2];
    const unsigned char *bytes;
    size_t length;
    float samples[64];
    dub_error *error;
};

static inline void add_own(dub_factory factory, dub_error *error)
{
    must(dub_factory_add_stt(factory, "own:stt", NULL, own_transcribe, NULL, NULL, error), error, "add_stt");
    must(dub_factory_add_translator(factory, "own:translator", NULL, own_translate, NULL, NULL, error), error, "add_translator");
    must(dub_factory_add_tts(factory, "own:tts", NULL, own_synthesize, NULL, NULL, error), error, "add_tts");
}

static inline void world_make(struct world *w, const char *media, const char *scratch)
{
    static const char *const keep[] = {"from", "en", "keep", "true", NULL};
    static unsigned char file[4 << 20];
    dub_job none = DUB_NONE(dub_job);
    dub_run run;
    size_t i;
    FILE *in;

    memset(w, 0, sizeof *w);
    w->error = dub_error_new();
    w->media = media;
    w->scratch = scratch;
    snprintf(w->saved, sizeof w->saved, "%s/saved.wav", scratch);
    snprintf(w->out_dir, sizeof w->out_dir, "%s/out", scratch);
    w->texts[0] = "Hello.";
    w->texts[1] = "Good morning.";
    w->models[0] = "own:stt";
    w->models[1] = "own:translator";
    in = fopen(media, "rb");
    if (in == NULL)
        exit(3);
    w->length = fread(file, 1, sizeof file, in);
    fclose(in);
    w->bytes = file;
    for (i = 0; i < 64; i++)
        w->samples[i] = 0.01f * (float)i;

    must(dub_factory_new(NULL, &w->factory, w->error), w->error, "factory");
    add_own(w->factory, w->error);
    must(dub_job_new(0, own_progress, NULL, NULL, &w->job, w->error), w->error, "job");
    must(dub_embedded_models(&w->text, w->error), w->error, "text");
    must(dub_audio_decode(w->bytes, w->length, NULL, none, &w->audio, w->error), w->error, "audio");
    must(dub_preload_start(w->factory, w->models, 2, NULL, none, &w->preload, w->error), w->error, "preload");
    must(dub_preload_wait(w->preload, none, w->error), w->error, "wait");
    must(dub_stt_load(w->factory, "own:stt", NULL, none, &w->stt, w->error), w->error, "stt");
    must(dub_translator_load(w->factory, "own:translator", NULL, none, &w->translator, w->error), w->error, "translator");
    must(dub_tts_load(w->factory, "own:tts", NULL, none, &w->tts, w->error), w->error, "tts");
    must(dub_stt_transcribe(w->stt, w->audio, NULL, none, &w->transcript, w->error), w->error, "transcript");
    must(dub_translator_translate(w->translator, w->texts, 2, "en", "es", NULL, none, &w->translations, w->error), w->error,
         "translations");
    must(dub_tts_synthesize(w->tts, w->texts, 2, NULL, none, &w->speeches, w->error), w->error, "speeches");
    must(dub_pipeline_new(w->stt, w->translator, w->tts, &w->pipeline, w->error), w->error, "pipeline");
    must(dub_request_audio(w->audio, "es", keep, &w->request, w->error), w->error, "request");
    must(dub_request_add_line(w->request, 0.5, 2, "Hello.", NULL, w->error), w->error, "a line");
    must(dub_request_add_line(w->request, 2.5, 4, "Good morning.", "Buenos dias.", w->error), w->error, "a line");
    must(dub_run_start(w->pipeline, w->request, none, &run, w->error), w->error, "run");
    must(dub_run_next(run, &w->line, w->error), w->error, "next");
    must(dub_run_finish(run, &w->result, w->error), w->error, "finish");
    must(dub_run_free(run), w->error, "free");
    must(dub_result_save(w->result, scratch, "world", w->error), w->error, "save");
    must(dub_run_start(w->pipeline, w->request, none, &w->run, w->error), w->error, "run");
}

/* Frees all of it; so many other handles are left. */
static inline void world_free_but(struct world *w, size_t left)
{
    dub_text_free(w->text);
    dub_job_free(w->job);
    dub_audio_free(w->audio);
    dub_factory_free(w->factory);
    dub_preload_free(w->preload);
    dub_stt_free(w->stt);
    dub_translator_free(w->translator);
    dub_tts_free(w->tts);
    dub_transcript_free(w->transcript);
    dub_translations_free(w->translations);
    dub_speeches_free(w->speeches);
    dub_pipeline_free(w->pipeline);
    dub_request_free(w->request);
    dub_run_free(w->run);
    dub_line_free(w->line);
    dub_result_free(w->result);
    dub_error_free(w->error);
    check(dub_handles() == left, "every handle is freed");
}

static inline void world_free(struct world *w)
{
    world_free_but(w, 0);
}

/* Runs `body` inside of a callback of the kind ('s' recogniser, 't' translator, 'v' voice), where `w->reply` is live. */
struct inside {
    void (*body)(struct world *w);
    struct world *w;
};

static inline void enter(void *user, dub_reply reply)
{
    struct inside *inside = (struct inside *)user;
    inside->w->reply = reply;
    inside->body(inside->w);
}

static inline int32_t enter_transcribe(void *user, dub_reply reply, const float *samples, size_t count, uint32_t rate,
                                       const char *language)
{
    enter(user, reply);
    return own_transcribe(NULL, reply, samples, count, rate, language);
}

static inline int32_t enter_translate(void *user, dub_reply reply, const char *text, const char *from, const char *to)
{
    enter(user, reply);
    return own_translate(NULL, reply, text, from, to);
}

static inline int32_t enter_synthesize(void *user, dub_reply reply, const char *text, const char *language,
                                       double speaking_rate, size_t speaker)
{
    enter(user, reply);
    return own_synthesize(NULL, reply, text, language, speaking_rate, speaker);
}

static inline void in_reply(struct world *w, char kind, void (*body)(struct world *w))
{
    struct inside inside;
    dub_job none = DUB_NONE(dub_job);
    dub_stt stt;
    dub_translator translator;
    dub_tts tts;
    dub_transcript transcript;
    dub_translations translations;
    dub_speeches speeches;

    inside.body = body;
    inside.w = w;
    if (kind == 's') {
        must(dub_factory_add_stt(w->factory, "in:stt", NULL, enter_transcribe, &inside, NULL, w->error), w->error, "add");
        must(dub_stt_load(w->factory, "in:stt", NULL, none, &stt, w->error), w->error, "load");
        must(dub_stt_transcribe(stt, w->audio, NULL, none, &transcript, w->error), w->error, "transcribe");
        dub_transcript_free(transcript);
        dub_stt_free(stt);
    } else if (kind == 't') {
        must(dub_factory_add_translator(w->factory, "in:translator", NULL, enter_translate, &inside, NULL, w->error), w->error,
             "add");
        must(dub_translator_load(w->factory, "in:translator", NULL, none, &translator, w->error), w->error, "load");
        must(dub_translator_translate(translator, w->texts, 1, "en", "es", NULL, none, &translations, w->error), w->error,
             "translate");
        dub_translations_free(translations);
        dub_translator_free(translator);
    } else {
        must(dub_factory_add_tts(w->factory, "in:tts", NULL, enter_synthesize, &inside, NULL, w->error), w->error, "add");
        must(dub_tts_load(w->factory, "in:tts", NULL, none, &tts, w->error), w->error, "load");
        must(dub_tts_synthesize(tts, w->texts, 1, NULL, none, &speeches, w->error), w->error, "synthesize");
        dub_speeches_free(speeches);
        dub_tts_free(tts);
    }
}

#endif
