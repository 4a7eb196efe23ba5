/* SPDX-License-Identifier: MIT */

/* `finack probe` against real servers: nginx with TLS, `openssl s_server`, `python3 -m
 * http.server`. */

#include "spawn.h"
#include "support.h"

#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LONG_FILE = 8 << 20
};

static const char *finack;
static char folder[] = "/tmp/finack-test-XXXXXX";
static char certificate[128], key[128], long_file[128];

/* ---- running the command ---- */

struct answer_of_probe {
    int status;
    json_t *closes; /* NULL: it printed something else */
};

static json_t *read_json(const char *command, int *ret_status)
{
    FILE *out = popen(command, "re");
    json_t *closes;
    int status;

    assert_non_null(out);
    closes = json_loadf(out, JSON_DISABLE_EOF_CHECK, NULL);
    while (fgetc(out) != EOF)
        ;
    status = pclose(out);
    assert_true(WIFEXITED(status));
    *ret_status = WEXITSTATUS(status);
    return closes;
}

__attribute__((format(printf, 1, 2))) static struct answer_of_probe probe(const char *format, ...)
{
    struct answer_of_probe answer;
    char command[1024];
    va_list args;
    int n = snprintf(command, sizeof command, "'%s' probe --json 2>&1 ", finack);

    va_start(args, format);
    vsnprintf(command + n, sizeof command - (size_t) n, format, args);
    va_end(args);
    answer.closes = read_json(command, &answer.status);
    return answer;
}

static const char *text_of(const json_t *close, const char *name)
{
    const char *text = json_string_value(json_object_get(close, name));

    assert_non_null(text);
    return text;
}

static bool was_reached(const json_t *close, const char *stage)
{
    return json_is_integer(json_object_get(json_object_get(close, "stages"), stage));
}

static void expect_close(const json_t *close, const char *outcome, const char *phase,
                         const char *end)
{
    assert_string_equal(text_of(close, "outcome"), outcome);
    assert_string_equal(text_of(close, "phase"), phase);
    assert_string_equal(text_of(close, "end"), end);
    assert_string_equal(text_of(close, "held"), "no");
    assert_true(was_reached(close, "unreferenced"));
}

/* Checks every close and frees the answer. */
static void expect(struct answer_of_probe answer, size_t count, const char *outcome,
                   const char *phase, const char *end)
{
    size_t i;
    json_t *close;

    assert_non_null(answer.closes);
    assert_int_equal(json_array_size(answer.closes), count);
    json_array_foreach(answer.closes, i, close) expect_close(close, outcome, phase, end);
    assert_int_equal(answer.status, strcmp(outcome, "graceful") == 0 ? 0 : 1);
    json_decref(answer.closes);
}

static void expect_graceful(struct answer_of_probe answer, size_t count)
{
    expect(answer, count, "graceful", "none", "fin");
}

static void expect_refused(struct answer_of_probe answer)
{
    assert_int_equal(answer.status, 2);
    json_decref(answer.closes);
}

/* ---- python3 -m http.server ---- */

static unsigned port_in(const char *line, const char *before)
{
    const char *at = strstr(line, before);
    unsigned long port;

    assert_non_null(at);
    port = strtoul(at + strlen(before), NULL, 10);
    assert_true(port > 0 && port < 65536);
    return (unsigned) port;
}

static unsigned start_python(struct program *p)
{
    char *argv[] = { "python3",   "-u",          "-m",   "http.server", "--bind",
                     "127.0.0.1", "--directory", folder, "0",           NULL };
    char line[256];

    program_start(p, argv, -1);
    program_await_line(p, "Serving HTTP", line, sizeof line);
    return port_in(line, " port ");
}

static void python_answers_our_end(void **state)
{
    struct program server;
    unsigned port = start_python(&server);

    (void) state;
    expect_graceful(probe("127.0.0.1:%u", port), 1);
    expect_graceful(probe("--http / 127.0.0.1:%u", port), 1);
    expect_graceful(probe("--count 20 --proof finished 127.0.0.1:%u", port), 20);
    program_stop(&server);
}

static void python_does_not_speak_tls(void **state)
{
    struct program server;
    unsigned port = start_python(&server);

    (void) state;
    expect_refused(probe("--tls --insecure 127.0.0.1:%u", port));
    program_stop(&server);
}

/* ---- openssl s_server ---- */

static unsigned start_s_server(struct program *p)
{
    char *argv[] = { "openssl",   "s_server", "-accept", "127.0.0.1:0", "-cert",
                     certificate, "-key",     key,       NULL };
    char line[256];

    program_start(p, argv, -1);
    program_await_line(p, "ACCEPT", line, sizeof line);
    return port_in(line, "127.0.0.1:");
}

static void s_server_answers_close_notify(void **state)
{
    static const char *const courtesies[] = { "orderly", "full" };
    struct program server;
    unsigned port = start_s_server(&server);
    size_t i;

    (void) state;
    for (i = 0; i < 2; i++) {
        struct answer_of_probe answer =
            probe("--tls --cafile %s --courtesy %s localhost:%u", certificate, courtesies[i], port);

        assert_non_null(answer.closes);
        assert_true(was_reached(json_array_get(answer.closes, 0), "notified"));
        assert_true(was_reached(json_array_get(answer.closes, 0), "answered"));
        expect_graceful(answer, 1);
    }
    program_stop(&server);
}

static void certificates_are_verified(void **state)
{
    struct program server;
    unsigned port = start_s_server(&server);

    (void) state;
    expect_refused(probe("--tls localhost:%u", port));
    expect_refused(probe("--tls --cafile %s --sni other.example 127.0.0.1:%u", certificate, port));
    expect_graceful(probe("--tls --insecure 127.0.0.1:%u", port), 1);
    expect_graceful(probe("--tls --cafile %s 127.0.0.1:%u", certificate, port), 1);
    program_stop(&server);
}

/* ---- nginx ---- */

static void write_config(const char *name, unsigned port)
{
    FILE *out = fopen(name, "we");

    assert_non_null(out);
    fprintf(out,
            "daemon off; worker_processes 1; pid %s/nginx.pid; error_log %s/error.log;\n"
            "events {}\nhttp { access_log off;\n"
            "client_body_temp_path %s/a; proxy_temp_path %s/b; fastcgi_temp_path %s/c;\n"
            "uwsgi_temp_path %s/d; scgi_temp_path %s/e;\n"
            "server { listen 127.0.0.1:%u ssl; root %s;\n"
            "ssl_certificate %s; ssl_certificate_key %s; } }\n",
            folder, folder, folder, folder, folder, folder, folder, port, folder, certificate, key);
    assert_int_equal(fclose(out), 0);
}

/* nginx inherits its listening socket, as in its own upgrade: no port to guess, nothing to wait
 * for. */
static unsigned start_nginx(struct program *p)
{
    char config[128], errors[128], inherited[32];
    char *argv[] = { "nginx", "-c", config, "-e", errors, NULL };
    int listener = listen_tcp(AF_INET, 0, 64, BUFFERS_USUAL);
    struct sockaddr_storage address;
    unsigned port;

    address_of(listener, &address);
    port = ntohs(((struct sockaddr_in *) &address)->sin_port);
    snprintf(config, sizeof config, "%s/nginx.conf", folder);
    snprintf(errors, sizeof errors, "%s/error.log", folder);
    snprintf(inherited, sizeof inherited, "%d;", listener);
    write_config(config, port);
    setenv("NGINX", inherited, 1);
    program_start(p, argv, listener);
    unsetenv("NGINX");
    drop_all(listener, -1);
    return port;
}

/* nginx ends TLS without close_notify once it has read ours: "truncated" is what it is. */
static void nginx_does_not_answer_close_notify(void **state)
{
    struct program server;
    unsigned port = start_nginx(&server);

    (void) state;
    expect(probe("--tls --cafile %s --http /short localhost:%u", certificate, port), 1, "truncated",
           "linger", "fin");
    expect(probe("--tls --insecure --http / --count 8 localhost:%u", port), 8, "truncated",
           "linger", "fin");
    program_stop(&server);
}

static void a_long_response_is_not_drained_for_ever(void **state)
{
    struct program server;
    unsigned port = start_nginx(&server);

    (void) state;
    expect(probe("--tls --insecure --http /long --drain 4K localhost:%u", port), 1, "bounded",
           "linger", "reset");
    program_stop(&server);
}

/* ---- the whole ---- */

static void make_file(const char *name, off_t size)
{
    int fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    drop_all(fd, -1);
}

static int make_folder(void **state)
{
    char short_file[128];
    char *argv[] = {
        "openssl",  "req",           "-x509",   "-newkey",
        "rsa:2048", "-nodes",        "-keyout", key,
        "-out",     certificate,     "-days",   "2",
        "-subj",    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        NULL
    };

    (void) state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chmod(folder, 0755), 0); /* nginx reads files as another user */
    snprintf(certificate, sizeof certificate, "%s/cert.pem", folder);
    snprintf(key, sizeof key, "%s/key.pem", folder);
    snprintf(long_file, sizeof long_file, "%s/long", folder);
    snprintf(short_file, sizeof short_file, "%s/short", folder);
    make_file(long_file, LONG_FILE);
    make_file(short_file, 100);
    assert_true(program_run(argv));
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void) st;
    (void) type;
    (void) ftw;
    return remove(path);
}

static int remove_folder(void **state)
{
    (void) state;
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        GUARDED(python_answers_our_end),
        GUARDED(python_does_not_speak_tls),
        GUARDED(s_server_answers_close_notify),
        GUARDED(certificates_are_verified),
        GUARDED(nginx_does_not_answer_close_notify),
        GUARDED(a_long_response_is_not_drained_for_ever),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: test_servers FINACK\n");
        return 2;
    }
    finack = argv[1];
    setenv("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin", 1);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
