{{- define "httpd" -}}
{{- $proxy := .Values.proxy }}
{{- $oidc := $proxy.oidc }}
{{- $editors := list }}
{{- range $proxy.editors }}{{ $editors = append $editors (regexQuoteMeta .) }}{{ end }}
{{- $hook := "%{REQUEST_METHOD} == 'POST' && %{REQUEST_URI} == '/graphql' && -n osenv('HOOK_TOKEN') && %{HTTP:Authorization} == 'Bearer ' . osenv('HOOK_TOKEN')" -}}
ServerName https://{{ $proxy.host }}
Listen 8080
PidFile /tmp/httpd.pid
Mutex file:/tmp
# Not /dev/stderr, which the user of a container may not be allowed to open.
ErrorLog "|/bin/cat"
LogLevel warn
# Without the query, in which a code of the login may stand.
LogFormat "%h %u \"%m %U\" %>s" plain
CustomLog "|/bin/cat" plain
ServerTokens Prod
ServerSignature Off
TraceEnable Off
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule proxy_wstunnel_module /usr/lib/apache2/modules/mod_proxy_wstunnel.so
LoadModule auth_openidc_module /usr/lib/apache2/modules/mod_auth_openidc.so

ProxyPreserveHost On
ProxyTimeout 300
AllowEncodedSlashes NoDecode

OIDCProviderMetadataURL {{ trimSuffix "/" $oidc.issuer }}/.well-known/openid-configuration
OIDCClientID {{ $oidc.clientId }}
OIDCClientSecret "${OIDC_CLIENT_SECRET}"
OIDCCryptoPassphrase "${OIDC_PASSPHRASE}"
OIDCRedirectURI https://{{ $proxy.host }}/oidc/callback
OIDCScope "{{ $oidc.scopes }}"
OIDCRemoteUserClaim {{ $oidc.userClaim }}
OIDCPassClaimsAs environment
# The session is in the browser, encrypted: any replica knows it.
OIDCSessionType client-cookie
OIDCSessionInactivityTimeout {{ mul $proxy.sessionHours 3600 }}
OIDCSessionMaxDuration {{ mul $proxy.sessionHours 3600 }}
OIDCCookieSameSite On
OIDCXForwardedHeaders X-Forwarded-Proto

<Location "/">
  AuthType openid-connect
  <RequireAny>
    {{- range concat $proxy.editors $proxy.viewers }}
    Require claim {{ $oidc.groupsClaim }}:{{ . }}
    {{- end }}
    {{- if $proxy.hook.enabled }}
    Require expr "{{ $hook }}"
    {{- end }}
  </RequireAny>
  # Nobody but this proxy says who somebody is.
  RequestHeader unset X-Forwarded-User early
  RequestHeader set X-Forwarded-User "expr=%{REMOTE_USER}"
  RequestHeader unset Authorization

  # These rules run after the login, where the groups are known. The first that matches is the last.
  RewriteEngine On
  RewriteRule ^/oidc/ - [L]
  # Another web page that an editor visits must not use Dagster, which itself does not look.
  RewriteCond expr "-n %{HTTP:Origin} && %{HTTP:Origin} != 'https://{{ $proxy.host }}'"
  RewriteRule .* - [F]
  # Nor by a link or a form: GraphQL is asked by POST with JSON, as its own pages do (/graphql?op=…).
  RewriteCond expr "%{REQUEST_URI} =~ m#^/graphql/?$# && %{REQUEST_METHOD} != 'POST' && -n %{QUERY_STRING}"
  RewriteRule .* - [F]
  RewriteCond expr "%{REQUEST_URI} =~ m#^/graphql/?$# && %{REQUEST_METHOD} == 'POST' && %{HTTP:Content-Type} !~ m#^application/json *(;|$)#i"
  RewriteRule .* - [F]
  {{- $websocket := "RewriteCond %{HTTP:Upgrade} =websocket [NC]" }}
  {{- $editor := printf "RewriteCond %%{ENV:OIDC_CLAIM_%s} (^|,)(%s)(,|$)" $oidc.groupsClaim (join "|" $editors) }}
  {{- $full := printf "%s-webserver:3000" .Release.Name }}
  {{- $readOnly := printf "%s-viewer:3000" .Release.Name }}
  {{ $editor }}
  {{ $websocket }}
  RewriteRule .* ws://{{ $full }}%{REQUEST_URI} [P,L]
  {{ $editor }}
  RewriteRule .* http://{{ $full }}%{REQUEST_URI} [P,L]
  {{- if $proxy.hook.enabled }}
  RewriteCond expr "{{ $hook }}"
  RewriteRule .* http://{{ $full }}%{REQUEST_URI} [P,L]
  {{- end }}
  {{ $websocket }}
  RewriteRule .* ws://{{ $readOnly }}%{REQUEST_URI} [P,L]
  RewriteRule .* http://{{ $readOnly }}%{REQUEST_URI} [P,L]
</Location>

# A page whose session has ended is told so, and not sent a login in place of data.
<Location "/graphql">
  OIDCUnAuthAction 401
</Location>
{{- end }}
