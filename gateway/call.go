package gateway

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// NewRequest returns a request to path, which is escaped and relative to the
// account's base URL.
func (a *Account) NewRequest(method, path string, body []byte) (*http.Request, error) {
	return a.client.NewRequest(context.Background(), method, path, body)
}

// Base returns the address of the account's API, without a slash at its end. It
// is not to be changed.
func (a *Account) Base() *url.URL { return a.client.Base }

// SendWithLinkToken sends a copy of req, under ctx, with a link token of Klavi's.
func (a *Account) SendWithLinkToken(ctx context.Context, req *http.Request, token string) (*http.Response, error) {
	return a.call(ctx, req, "Bearer "+token)
}

// SendAuthorized sends a copy of req, under ctx, with the access token: nothing
// that still holds req can see it. When Klavi answers 401 the token is given up,
// and the request sent once more if its body can be had again (GetBody). The
// error is a *klavi.LoginError, a *CallError, or that of ctx.
func (a *Account) SendAuthorized(ctx context.Context, req *http.Request) (*http.Response, error) {
	token, err := a.token(ctx)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	res, err := a.call(ctx, req, token.Header())
	if err != nil || res.StatusCode != http.StatusUnauthorized {
		return res, err
	}
	a.shared.tokens.Refused(token)
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return res, nil
	}
	fresh, err := a.token(ctx)
	if err == nil && fresh == token {
		return res, nil // refused while fresh: another login would not help
	}
	drain(res)
	if err != nil {
		return nil, err
	}
	again := *req
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, fmt.Errorf("sending the body again: %w", err)
		}
	}
	return a.call(ctx, &again, fresh.Header())
}

// IsAccessToken reports whether token is the access token in use.
func (a *Account) IsAccessToken(token string) bool {
	current := a.shared.tokens.Current()
	return current != nil && current.Value() == token
}

func (a *Account) token(ctx context.Context) (*klavi.Token, error) {
	return a.shared.tokens.Get(ctx, a.logIn, a.refreshAhead(), a.klaviTimeout())
}

func (a *Account) login(ctx context.Context) (string, time.Duration, error) {
	value, lifetime, err := a.client.Login(ctx)
	if err != nil {
		countLogin(a.name, "failed")
		a.logger.Error("logging in to klavi failed", zap.Error(err))
		return "", 0, err
	}
	countLogin(a.name, "ok")
	a.logger.Debug("logged in to klavi", zap.Duration("lifetime", lifetime))
	return value, lifetime, nil
}

// callTransport makes calls that need no token.
type callTransport struct{ account *Account }

// RoundTrip makes one call.
func (t callTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.account.call(req.Context(), req, "")
}

// call makes one call under the caller's context, bounded by klavi_timeout up to
// the last byte of the answer. A copy of req goes out, with authorization as its
// only one, if any.
func (a *Account) call(caller context.Context, req *http.Request, authorization string) (*http.Response, error) {
	meter := a.meter(req)
	ctx, cancel := context.WithTimeout(withoutValues{caller}, a.klaviTimeout())
	ctx, span := a.startSpan(ctx, caller, meter.endpoint)
	out := req.WithContext(ctx)
	if authorization != "" {
		out.Header = maps.Clone(req.Header)
		out.Header["Authorization"] = []string{authorization}
	}
	began := time.Now()

	res, err := a.transport.RoundTrip(out)
	if err != nil {
		err = callError(caller, ctx, err)
		meter.count(0, time.Since(began))
		endSpan(span, 0)
		cancel()
		return nil, err
	}
	meter.count(res.StatusCode, time.Since(began))
	endSpan(span, res.StatusCode)
	res.Body = &answerBody{res.Body, cancel}
	if res.StatusCode == http.StatusSwitchingProtocols {
		// Its body would be the connection: reading that ends neither with
		// the context nor with klavi_timeout.
		_ = res.Body.Close()
		res.Body = http.NoBody
	}
	return res, nil
}

// meter returns what counts the calls to the endpoint of req.
func (a *Account) meter(req *http.Request) *meter {
	path := strings.TrimPrefix(req.URL.EscapedPath(), a.client.Base.Path)
	endpoint, _ := klavi.Find(req.Method, path) // or the zero Endpoint, which stands for all others
	return a.meters[endpoint]
}

// answerBody ends the call when its answer has been read.
type answerBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// withoutValues is the caller's context without what others have left in it: a
// proxy that ran earlier for the same request (forward_auth is one) leaves the
// address that it dialed there, and Caddy's transport would dial that instead of
// Klavi's.
type withoutValues struct{ context.Context }

// Value answers package context alone, which asks by *int: without an answer it
// would watch the caller's context in a goroutine of its own.
func (c withoutValues) Value(key any) any {
	if _, ok := key.(*int); ok {
		return c.Context.Value(key)
	}
	return nil
}

// startSpan begins a span below the one of the request, if that is traced.
func (a *Account) startSpan(ctx, caller context.Context, endpoint string) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(caller)
	if !parent.IsRecording() {
		return ctx, parent // which records nothing, and is not ended here
	}
	return parent.TracerProvider().Tracer("github.com/caddy-klavi/caddy-klavi").
		Start(trace.ContextWithSpan(ctx, parent), "klavi "+endpoint, trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attribute.String("klavi.account", a.name)))
}

func endSpan(span trace.Span, status int) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	span.End()
}

// drain reads what is left of an answer that nobody wants, so that its
// connection can be used again.
func drain(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	_ = res.Body.Close()
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}
