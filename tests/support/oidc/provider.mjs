// The OIDC provider of the tests: npm oidc-provider with its development pages, on loopback.
//
//   node provider.mjs PORT FOLDER
//
// Any name and password sign in. FOLDER/clients.json and FOLDER/jwks.json configure it; each
// grant is a line of JSON on standard output. While FOLDER/fault exists every request meets it:
// `down` (cut), `slow` (no answer), `html`, `busy` (429), `revoked` (invalid_grant), or a JSON
// object whose members replace those of a token's answer.
import { readFileSync, existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// Installed apart from this file, so that nothing of npm lies in the checkout.
const require = createRequire(pathToFileURL(`${process.env.OIDC_NODE_MODULES}/`));
const entry = pathToFileURL(require.resolve('oidc-provider')).href;
const { default: Provider, errors } = await import(entry);

const [port, folder] = process.argv.slice(2);
const read = (name) => JSON.parse(readFileSync(`${folder}/${name}`, 'utf8'));
const issuer = `http://127.0.0.1:${port}`;
const seconds = Number(process.env.OIDC_TOKEN_SECONDS ?? 3600);
const tell = (line) => console.log(JSON.stringify({ at: Date.now() / 1000, ...line }));

const server = { scope: 'mlflow', audience: 'https://mlflow.test', accessTokenTTL: seconds,
  accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } };

const provider = new Provider(issuer, {
  clients: read('clients.json'),
  jwks: read('jwks.json'),
  cookies: { keys: ['only-for-tests'] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  scopes: ['openid', 'offline_access', 'mlflow'],
  conformIdTokenClaims: false,
  findAccount: async (ctx, id) => ({
    accountId: id,
    claims: async () => ({ sub: id, preferred_username: id }),
  }),
  extraTokenClaims: async (ctx, token) => ({
    preferred_username: token.accountId ?? token.clientId,
    groups: token.clientId === 'machine' ? ['ci'] : ['ml-leads'],
  }),
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: async () => 'https://mlflow.test',
      useGrantedResource: async () => true,
      getResourceServerInfo: async (ctx, resource) => ({ ...server, audience: resource }),
    },
  },
  ttl: { AccessToken: seconds, ClientCredentials: seconds, RefreshToken: 86400, DeviceCode: 300 },
});

// Grants that the library leaves to its user: the subject's or the assertion's holder gets a token.
async function exchange(ctx, field) {
  if (!ctx.oidc.params[field]?.startsWith('good-')) throw new errors.InvalidGrant('refused');
  const token = new provider.ClientCredentials({ client: ctx.oidc.client, scope: 'mlflow' });
  token.resourceServer = new provider.ResourceServer(server.audience, server);
  ctx.oidc.entity('ClientCredentials', token);
  ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: seconds };
}
provider.registerGrantType('urn:ietf:params:oauth:grant-type:token-exchange',
  (ctx) => exchange(ctx, 'subject_token'),
  ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope'],
  ['audience', 'resource']);
provider.registerGrantType('urn:ietf:params:oauth:grant-type:jwt-bearer',
  (ctx) => exchange(ctx, 'assertion'), ['assertion', 'scope', 'resource'], ['resource']);

const grant = (ctx) => ctx.oidc.params?.grant_type ?? '?';
provider.on('grant.success', (ctx) => tell({ grant: grant(ctx), ok: true }));
provider.on('grant.error', (ctx, error) => tell({ grant: grant(ctx), ok: false, error: error.error, why: error.error_detail }));
provider.on('server_error', (ctx, error) => tell({ server_error: String(error.stack) }));

provider.use(async (ctx, next) => {
  const fault = existsSync(`${folder}/fault`) ? readFileSync(`${folder}/fault`, 'utf8') : '';
  if (fault === 'down') { ctx.respond = false; ctx.req.socket.destroy(); return; }
  if (fault === 'slow') { ctx.respond = false; return; }
  if (fault === 'html') { ctx.type = 'html'; ctx.body = '<html>gateway</html>'; return; }
  if (fault === 'busy') { ctx.status = 429; ctx.set('Retry-After', '1'); ctx.body = 'busy'; return; }
  if (fault === 'revoked' && ctx.path === '/token') {
    ctx.status = 400; ctx.body = { error: 'invalid_grant', error_description: 'grant revoked' }; return;
  }
  await next();
  if (fault.startsWith('{') && ctx.path === '/token' && ctx.body?.access_token) {
    ctx.body = { ...ctx.body, ...JSON.parse(fault) };
  }
});
provider.listen(Number(port), '127.0.0.1', () => tell({ listening: issuer }));
