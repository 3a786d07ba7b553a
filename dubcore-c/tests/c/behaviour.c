/*
 * What the header promises of callbacks, threads and ends: each outcome happens.
 *
 * behaviour MEDIA SCRATCH_DIR
 */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

static const dub_job no_job = {0, 0, 0};

/* A check that counts as a line of its own. */
static void ok(int holds, const char *what)
{
    check(holds, what);
    if (holds)
        printf("ok %s\n", what);
}

/* --- callbacks --- */

static int destroyed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int inside, released;

static void count_destroy(void *user)
{
    (void)user;
    pthread_mutex_lock(&lock);
    destroyed++;
    pthread_mutex_unlock(&lock);
}

/* Whether so many were destroyed, now or soon: the last to have a callback may be a thread that is just ending. */
static int destroyed_is(int wanted)
{
    int i, now = 0;
    for (i = 0; i < 10000; i++) {
        struct timespec moment = {0, 1000 * 1000};
        pthread_mutex_lock(&lock);
        now = destroyed;
        pthread_mutex_unlock(&lock);
        if (now >= wanted)
            break;
        nanosleep(&moment, NULL);
    }
    return now == wanted;
}

static int32_t fail_some(void *user, dub_reply reply, const char *text, const char *from, const char *to)
{
    if (strcmp(text, "busy") == 0)
        return DUB_STATUS_BUSY;
    if (strcmp(text, "quota") == 0) {
        dub_reply_fail(reply, "the quota is used up", NULL);
        return DUB_STATUS_LIMIT_EXCEEDED;
    }
    if (strcmp(text, "nonsense") == 0)
        return -12345;
    if (strcmp(text, "nothing") == 0)
        return DUB_STATUS_OK;
    return own_translate(user, reply, text, from, to);
}

static void a_failing_callback(struct world *w)
{
    static const char *const texts[] = {"Hello.", "busy", "quota", "nonsense", "nothing", "Bye."};
    static const dub_status wanted[] = {DUB_STATUS_OK,       DUB_STATUS_BUSY,     DUB_STATUS_LIMIT_EXCEEDED,
                                        DUB_STATUS_INTERNAL, DUB_STATUS_INTERNAL, DUB_STATUS_OK};
    dub_translator translator;
    dub_translations translations;
    const char *text;
    double score;
    size_t i;
    int all = 1;

    must(dub_factory_add_translator(w->factory, "failing:one", NULL, fail_some, NULL, NULL, w->error), w->error, "add");
    must(dub_translator_load(w->factory, "failing:one", NULL, no_job, &translator, w->error), w->error, "load");
    must(dub_translator_translate(translator, texts, 6, "en", "es", NULL, no_job, &translations, w->error), w->error, "call");
    for (i = 0; i < 6; i++)
        all &= dub_translations_text(translations, i, &text, &score, w->error) == wanted[i];
    ok(all, "a callback that fails fails its text, and no other");
    dub_translations_text(translations, 2, &text, &score, w->error);
    ok(strstr(dub_error_message(w->error), "the quota is used up") != NULL, "its message is told");
    dub_translations_text(translations, 1, &text, &score, w->error);
    ok(dub_error_retryable(w->error) && strlen(dub_error_hint(w->error)) > 0, "what to do, and whether it may be tried again, is told");
    dub_translations_free(translations);
    dub_translator_free(translator);
}

struct reentry {
    struct world *w;
    dub_reply kept;
    int good, deep;
};

/* Calls about everything from inside. */
static int32_t re_enter(void *user, dub_reply reply, const char *text, const char *from, const char *to)
{
    struct reentry *r = user;
    struct world *w = r->w;
    dub_translations translations;
    dub_text status;
    dub_job brief;
    dub_line line;
    dub_error *error = dub_error_new();
    static const char *const names[] = {"Hello."};

    r->kept = reply;
    r->good = dub_factory_status(w->factory, &status, error) == DUB_STATUS_OK;
    dub_text_free(status);
    r->good &= dub_translator_translate(w->translator, names, 1, "en", "es", NULL, no_job, &translations, error) == DUB_STATUS_OK;
    dub_translations_free(translations);
    /* What would have to wait for this very call gives up at its deadline. */
    must(dub_job_new(0.05, NULL, NULL, NULL, &brief, error), error, "a job");
    r->good &= dub_factory_unload(w->factory, "re:entering", brief, error) == DUB_STATUS_BUSY;
    dub_job_free(brief);
    if (w->run.kind != 0 && r->deep)
        r->good &= dub_run_next(w->run, &line, error) == DUB_STATUS_BUSY && line.kind == 0;
    r->good &= dub_factory_add_translator(w->factory, "re:new", NULL, own_translate, NULL, NULL, error) == DUB_STATUS_OK;
    dub_error_free(error);
    return own_translate(NULL, reply, text, from, to);
}

static void a_callback_that_re_enters(struct world *w)
{
    struct reentry r;
    dub_translator translator;
    dub_translations translations;
    dub_pipeline pipeline;
    dub_result result;
    bool cancelled;

    memset(&r, 0, sizeof r);
    r.w = w;
    must(dub_factory_add_translator(w->factory, "re:entering", NULL, re_enter, &r, NULL, w->error), w->error, "add");
    must(dub_translator_load(w->factory, "re:entering", NULL, no_job, &translator, w->error), w->error, "load");
    must(dub_translator_translate(translator, w->texts, 1, "en", "es", NULL, no_job, &translations, w->error), w->error, "call");
    ok(r.good, "a callback may call the library");
    dub_translations_free(translations);
    ok(dub_reply_cancelled(r.kept, &cancelled, w->error) == DUB_STATUS_INVALID_ARGUMENT &&
           dub_reply_text(r.kept, "late", w->error) == DUB_STATUS_INVALID_ARGUMENT,
       "a reply ends with its callback");

    r.deep = 1;
    must(dub_pipeline_new(w->stt, translator, w->tts, &pipeline, w->error), w->error, "pipeline");
    dub_run_free(w->run);
    must(dub_run_start(pipeline, w->request, no_job, &w->run, w->error), w->error, "run");
    must(dub_run_finish(w->run, &result, w->error), w->error, "finish");
    ok(r.good, "a callback that pulls the run that called it is refused");
    dub_result_free(result);
    dub_pipeline_free(pipeline);
    dub_translator_free(translator);
}

/* --- threads --- */

/* Waits inside until it is released, and says that it is there. */
static int32_t wait_inside(void *user, dub_reply reply, const char *text, const char *from, const char *to)
{
    bool cancelled = false;
    (void)user;
    pthread_mutex_lock(&lock);
    inside++;
    pthread_cond_broadcast(&changed);
    while (!released && !cancelled) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += 10 * 1000 * 1000;
        if (soon.tv_nsec >= 1000000000) {
            soon.tv_nsec -= 1000000000;
            soon.tv_sec++;
        }
        pthread_cond_timedwait(&changed, &lock, &soon);
        pthread_mutex_unlock(&lock);
        dub_reply_cancelled(reply, &cancelled, NULL);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return own_translate(NULL, reply, text, from, to);
}

static void await_inside(void)
{
    pthread_mutex_lock(&lock);
    while (inside == 0)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void release(void)
{
    pthread_mutex_lock(&lock);
    released = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void fresh(void)
{
    pthread_mutex_lock(&lock);
    inside = released = destroyed = 0;
    pthread_mutex_unlock(&lock);
}

struct call {
    dub_translator translator;
    dub_run run;
    dub_job job;
    dub_status status, next, finish;
    size_t lines;
    bool complete, cut_short;
    const char *text;
    char said[100];
};

static void *translate(void *argument)
{
    static const char *const texts[] = {"Hello."};
    struct call *call = argument;
    dub_translations translations;
    double score;
    call->status = dub_translator_translate(call->translator, texts, 1, "en", "es", NULL, call->job, &translations, NULL);
    if (call->status == DUB_STATUS_OK && dub_translations_text(translations, 0, &call->text, &score, NULL) == DUB_STATUS_OK)
        strncat(call->said, call->text, sizeof call->said - 1);
    dub_translations_free(translations);
    return NULL;
}

static void free_while_running(struct world *w)
{
    struct call call;
    dub_factory factory;
    pthread_t thread;

    fresh();
    memset(&call, 0, sizeof call);
    must(dub_factory_new(NULL, &factory, w->error), w->error, "factory");
    must(dub_job_new(60, NULL, NULL, NULL, &call.job, w->error), w->error, "job");
    must(dub_factory_add_translator(factory, "wait:inside", NULL, wait_inside, NULL, count_destroy, w->error), w->error, "add");
    must(dub_translator_load(factory, "wait:inside", NULL, no_job, &call.translator, w->error), w->error, "load");
    pthread_create(&thread, NULL, translate, &call);
    await_inside();
    ok(dub_translator_free(call.translator) == DUB_STATUS_OK && dub_factory_free(factory) == DUB_STATUS_OK &&
           dub_job_free(call.job) == DUB_STATUS_OK,
       "what a call uses may be freed");
    ok(dub_translator_free(call.translator) == DUB_STATUS_INVALID_ARGUMENT, "and is freed then");
    ok(destroyed == 0, "its callback is kept for the call");
    release();
    pthread_join(thread, NULL);
    ok(call.status == DUB_STATUS_OK && strcmp(call.said, "en>es: Hello.") == 0, "the call ends unharmed");
    ok(destroyed_is(1), "and the callback's user is destroyed once, behind it");
}

static void *pull(void *argument)
{
    struct call *call = argument;
    dub_line line;
    dub_result result;
    while ((call->status = dub_run_next(call->run, &line, NULL)) == DUB_STATUS_OK) {
        call->lines++;
        dub_line_free(line);
    }
    call->next = dub_run_next(call->run, &line, NULL);
    call->finish = dub_run_finish(call->run, &result, NULL);
    dub_result_complete(result, &call->complete, &call->cut_short, NULL);
    dub_result_free(result);
    return NULL;
}

/* A run whose translator waits inside. */
static void start(struct world *w, struct call *call, double timeout)
{
    dub_pipeline pipeline;

    fresh();
    memset(call, 0, sizeof *call);
    must(dub_job_new(timeout, NULL, NULL, NULL, &call->job, w->error), w->error, "job");
    must(dub_factory_add_translator(w->factory, "wait:inside", NULL, wait_inside, NULL, NULL, w->error), w->error, "add");
    must(dub_translator_load(w->factory, "wait:inside", NULL, no_job, &call->translator, w->error), w->error, "load");
    must(dub_pipeline_new(w->stt, call->translator, w->tts, &pipeline, w->error), w->error, "pipeline");
    must(dub_run_start(pipeline, w->request, call->job, &call->run, w->error), w->error, "run");
    dub_pipeline_free(pipeline);
}

static void end(struct call *call)
{
    dub_translator_free(call->translator);
    dub_run_free(call->run);
    dub_job_free(call->job);
}

static void cancel_from_another_thread(struct world *w)
{
    struct call call;
    pthread_t thread;
    bool cancelled = false;
    dub_line line;
    dub_result result;

    start(w, &call, 0);
    pthread_create(&thread, NULL, pull, &call);
    await_inside();
    ok(dub_run_next(call.run, &line, w->error) == DUB_STATUS_BUSY && dub_run_finish(call.run, &result, w->error) == DUB_STATUS_BUSY,
       "one thread pulls at a time");
    must(dub_job_cancel(call.job, w->error), w->error, "cancel");
    pthread_join(thread, NULL);
    ok(call.status == DUB_STATUS_CANCELLED && call.next == DUB_STATUS_END, "a run that is cancelled says so once, then ends");
    ok(call.finish == DUB_STATUS_OK && call.cut_short && !call.complete, "its result is cut short");
    ok(dub_job_cancelled(call.job, &cancelled, w->error) == DUB_STATUS_OK && cancelled, "its job was cancelled");
    ok(dub_run_next(call.run, &line, w->error) == DUB_STATUS_INVALID_ARGUMENT, "a finished run is not pulled");
    end(&call);

    start(w, &call, 0.2);
    pthread_create(&thread, NULL, pull, &call);
    pthread_join(thread, NULL);
    ok(call.status == DUB_STATUS_DEADLINE_EXCEEDED && call.finish == DUB_STATUS_OK && call.cut_short, "a deadline ends a run");
    end(&call);

    start(w, &call, 0);
    pthread_create(&thread, NULL, pull, &call);
    await_inside();
    ok(dub_run_free(call.run) == DUB_STATUS_OK, "a run may be freed while it is pulled");
    release();
    pthread_join(thread, NULL);
    ok(call.status == DUB_STATUS_INVALID_ARGUMENT && call.lines > 0, "what was begun is given, and the next call refused");
    end(&call);
}

static int32_t stop_at_once(void *user, double fraction)
{
    (void)fraction;
    (*(int *)user)++;
    return 1;
}

static void progress(struct world *w)
{
    dub_run run;
    dub_line line;
    dub_job job;
    dub_text parts;
    const char *text;
    size_t length;
    int told = 0;
    double fraction = 0;
    dub_status status;

    fresh();
    must(dub_job_new(0, stop_at_once, &told, count_destroy, &job, w->error), w->error, "job");
    must(dub_run_start(w->pipeline, w->request, job, &run, w->error), w->error, "run");
    while ((status = dub_run_next(run, &line, w->error)) == DUB_STATUS_OK)
        dub_line_free(line);
    ok(status == DUB_STATUS_CANCELLED && told > 0, "a progress callback cancels by what it returns");
    ok(dub_job_progress(job, &fraction, w->error) == DUB_STATUS_OK && fraction > 0, "progress may be asked for");
    must(dub_job_parts(job, &parts, w->error), w->error, "parts");
    must(dub_text_data(parts, &text, &length, w->error), w->error, "text");
    ok(strstr(text, "\"translate\"") != NULL && strlen(text) == length, "and that of its parts");
    dub_text_free(parts);
    dub_job_free(job);
    ok(destroyed == 0, "a run keeps its job's callback");
    dub_run_free(run);
    ok(destroyed_is(1), "which ends with the run");
}

static void destroying(struct world *w)
{
    dub_factory factory;
    dub_tts tts;
    fresh();
    must(dub_factory_new(NULL, &factory, w->error), w->error, "factory");
    ok(dub_factory_add_tts(factory, "not a name at all", NULL, own_synthesize, NULL, count_destroy, w->error) != DUB_STATUS_OK &&
           dub_factory_add_tts(factory, "a:voice", NULL, NULL, NULL, count_destroy, w->error) == DUB_STATUS_INVALID_ARGUMENT &&
           destroyed == 0,
       "what is refused stays the caller's");
    must(dub_factory_add_tts(factory, "a:voice", NULL, own_synthesize, NULL, count_destroy, w->error), w->error, "add");
    must(dub_factory_add_tts(factory, "a:voice", NULL, own_synthesize, NULL, count_destroy, w->error), w->error, "add");
    ok(destroyed_is(1), "a callback that is replaced is destroyed");
    must(dub_tts_load(factory, "a:voice", NULL, no_job, &tts, w->error), w->error, "load");
    dub_factory_free(factory);
    ok(destroyed_is(1), "a stage keeps its factory");
    dub_tts_free(tts);
    ok(destroyed_is(2), "and the factory its callbacks");
}

/* --- the log --- */

struct log {
    int lines, warned;
    dub_factory factory;
};

static void take_log(void *user, const char *level, const char *target, const char *message)
{
    struct log *log = user;
    dub_text text;
    log->lines++;
    log->warned |= strcmp(level, "warn") == 0 && strncmp(target, "dubcore", 7) == 0 && strstr(message, "/results") != NULL;
    /* It may call the library, and end itself. */
    dub_factory_status(log->factory, &text, NULL);
    dub_text_free(text);
    dub_log(NULL, NULL, NULL, NULL, NULL);
}

static void translate_one(struct world *w, dub_translator translator, const char *text)
{
    dub_translations translations;
    must(dub_translator_translate(translator, &text, 1, "en", "es", NULL, no_job, &translations, w->error), w->error, "call");
    dub_translations_free(translations);
}

/* Results that cannot be kept are worth a warning, and no more. */
static void logging(struct world *w)
{
    static const char *const about[] = {"revision", "1", NULL};
    const char *settings[] = {"results_dir", NULL, NULL};
    char folder[600], elsewhere[600];
    struct log log;
    dub_translator translator;
    FILE *in_its_place;

    fresh();
    memset(&log, 0, sizeof log);
    snprintf(folder, sizeof folder, "%s/results", w->scratch);
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", w->scratch);
    settings[1] = folder;
    must(dub_factory_new(settings, &log.factory, w->error), w->error, "factory");
    must(dub_factory_add_translator(log.factory, "own:kept", about, own_translate, NULL, NULL, w->error), w->error, "add");
    must(dub_translator_load(log.factory, "own:kept", NULL, no_job, &translator, w->error), w->error, "load");
    if (rename(folder, elsewhere) != 0 || (in_its_place = fopen(folder, "w")) == NULL)
        exit(3);
    fclose(in_its_place);
    ok(dub_log("loud", take_log, &log, count_destroy, w->error) == DUB_STATUS_INVALID_ARGUMENT && destroyed == 0,
       "an unknown level is refused");
    must(dub_log("error", take_log, &log, count_destroy, w->error), w->error, "log");
    translate_one(w, translator, "one");
    ok(log.lines == 0, "what is below the level is not told");
    must(dub_log("warn", take_log, &log, count_destroy, w->error), w->error, "log");
    ok(destroyed_is(1), "a log callback that is replaced is destroyed");
    translate_one(w, translator, "two");
    ok(log.lines == 1 && log.warned, "a warning is told");
    ok(destroyed_is(2), "a log callback may end itself");
    translate_one(w, translator, "three");
    ok(log.lines == 1, "nothing is told afterwards");
    must(dub_log(NULL, NULL, NULL, count_destroy, w->error), w->error, "log");
    ok(destroyed_is(3), "a user without a callback is destroyed at once");
    dub_translator_free(translator);
    dub_factory_free(log.factory);
}

/* --- processes --- */

static void *churn(void *stop)
{
    while (!*(volatile int *)stop) {
        dub_job job;
        dub_job_new(0, NULL, NULL, NULL, &job, NULL);
        dub_job_free(job);
    }
    return NULL;
}

/* A child of fork() may be made while other threads are at the table of handles. */
static void forking(struct world *w)
{
    volatile int stop = 0;
    pthread_t threads[2];
    int i, good = 1;

    for (i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, churn, (void *)&stop);
    for (i = 0; i < 100; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            dub_translations translations;
            dub_status got;
            alarm(30);
            got = dub_translator_translate(w->translator, w->texts, 2, "en", "es", NULL, no_job, &translations, NULL);
            got = got == DUB_STATUS_OK ? dub_translations_free(translations) : got;
            _exit(got == DUB_STATUS_OK ? 0 : 1);
        }
        good &= child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    stop = 1;
    for (i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ok(good, "a child of fork() has the handles of its parent, and never hangs");
}

/* Threads that use and free each other's handles. */
struct shared {
    dub_audio audio[8];
    size_t wrong;
};

static void *use_and_free(void *argument)
{
    struct shared *shared = argument;
    unsigned seed = (unsigned)(size_t)&seed;
    size_t i, wrong = 0;
    static const float frames[4] = {0, 0.5f, -0.5f, 0};

    for (i = 0; i < 20000; i++) {
        dub_audio mine, theirs;
        const float *samples;
        size_t count, at = (seed = seed * 1664525u + 1013904223u) >> 29;
        uint32_t rate;
        dub_status got;
        pthread_mutex_lock(&lock);
        theirs = shared->audio[at];
        pthread_mutex_unlock(&lock);
        got = dub_audio_samples(theirs, &samples, &count, &rate, NULL);
        wrong += got != DUB_STATUS_INVALID_ARGUMENT && !(got == DUB_STATUS_OK && count == 4 && rate == 16000);
        if (i % 3 == 0) {
            got = dub_audio_free(theirs);
            wrong += got != DUB_STATUS_OK && got != DUB_STATUS_INVALID_ARGUMENT;
            wrong += dub_audio_new(frames, 4, 16000, &mine, NULL) != DUB_STATUS_OK;
            pthread_mutex_lock(&lock);
            theirs = shared->audio[at];
            shared->audio[at] = mine;
            pthread_mutex_unlock(&lock);
            dub_audio_free(theirs);
        }
    }
    pthread_mutex_lock(&lock);
    shared->wrong += wrong;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void sharing(void)
{
    struct shared shared;
    pthread_t threads[4];
    int i;
    memset(&shared, 0, sizeof shared);
    for (i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, use_and_free, &shared);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (i = 0; i < 8; i++)
        dub_audio_free(shared.audio[i]);
    ok(shared.wrong == 0, "threads may free each other's handles at any time");
}

int main(int argc, char **argv)
{
    struct world w;
    int with_fork;
    if (argc < 3)
        return 2;
    /* Sanitizers and memcheck have their own ideas about children. */
    with_fork = argc == 3;
    setvbuf(stdout, NULL, _IOLBF, 0);
    world_make(&w, argv[1], argv[2]);
    a_failing_callback(&w);
    a_callback_that_re_enters(&w);
    free_while_running(&w);
    cancel_from_another_thread(&w);
    progress(&w);
    destroying(&w);
    logging(&w);
    sharing();
    if (with_fork)
        forking(&w);
    world_free(&w);
    ok(dub_handles() == 0, "every handle was freed");
    return failures == 0 ? 0 : 1;
}
