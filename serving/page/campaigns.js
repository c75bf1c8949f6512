'use strict';
// Which campaigns there are, the choice among them, and what they offer to rank. Nothing of this is seen where no ads table
// was loaded.

/** More are not listed, but searched for: a list of thousands is slow, and nobody reads it. */
const LISTED_MAX = 500;
const FOUND_MAX = 50;
/** No tenant is called that. */
const AN_AD = 'an ad';
const NO_CAMPAIGNS = { ads_version: null, data: [] };
let campaigns = NO_CAMPAIGNS;
/** What the choice was last drawn for: it is left alone while that stays the same, because somebody may have it open. */
let drawn = { campaigns: null, now: null, other: null };

const tenants = () => [...new Set(campaigns.data.map((row) => row.tenant))];
const isListed = () => campaigns.data.length <= LISTED_MAX;
const hasTop = (top) => top === 'ads' || (campaigns.data.length > 0 && (top !== 'tenants' || tenants().length > 1));
/** What is ranked: what the address says, as far as there is something to rank. */
const shownTop = () => (hasTop(view.top) ? view.top : 'ads');

/** Names hold no spaces. */
const choiceOf = ({ tenant, campaign }) => (campaign ? `${tenant} ${campaign}` : tenant);
const ofChoice = (choice) => {
  const [tenant = '', campaign = ''] = choice.split(' ');
  return { ...ALL_ADS, tenant, campaign };
};

function drawCampaigns() {
  const isNone = campaigns.data.length === 0;
  $('scope-box').hidden = $('tops').hidden = isNone;
  $('find').hidden = isNone || isListed();
  drawChoice();
  for (const link of document.querySelectorAll('[data-top]')) {
    const { top } = link.dataset;
    link.hidden = !hasTop(top);
    link.href = toUrl({ top });
    top === shownTop() ? link.setAttribute('aria-current', 'true') : link.removeAttribute('aria-current');
  }
}

function drawChoice() {
  if (drawn.campaigns !== campaigns) {
    $('scope').replaceChildren(new Option('All ads', ''), ...groups());
    $('find-names').replaceChildren();
    drawn = { campaigns, now: null, other: null };
  }
  const now = view.ad ? `ad ${view.ad}` : choiceOf(view);
  if (campaigns.data.length === 0 || drawn.now === now) return;
  // What is shown may be none of the list: an ad, a name that is gone, or one of too many.
  if (drawn.other) drawn.other.remove();
  const value = view.ad ? AN_AD : now;
  const isThere = [...$('scope').options].some((option) => option.value === value);
  const other = isThere ? null : new Option(view.ad ? now : textOf(view), value);
  if (other) $('scope').prepend(other);
  $('scope').value = value;
  drawn = { campaigns, now, other };
}

function groups() {
  const all = tenants();
  if (!isListed()) return all.length <= LISTED_MAX ? all.map((tenant) => new Option(`All of ${tenant}`, tenant)) : [];
  return all.map((tenant) => {
    const group = element('optgroup');
    group.label = tenant;
    const own = campaigns.data.filter((row) => row.tenant === tenant);
    group.append(new Option(`All of ${tenant}`, tenant), ...own.map((row) => new Option(row.campaign, choiceOf(row))));
    return group;
  });
}

const textOf = ({ tenant, campaign }) => [tenant, campaign].filter(Boolean).join(' / ');

/** Those whose name holds the text, also `tenant / campaign` as it is proposed. */
function found(text) {
  const part = text.trim().toLowerCase();
  const all = campaigns.data.filter((row) => textOf(row).toLowerCase().includes(part));
  const exact = all.filter((row) => [textOf(row), row.campaign].some((name) => name.toLowerCase() === part));
  return { all, only: exact.length === 1 ? exact[0] : all.length === 1 ? all[0] : null };
}

$('scope').addEventListener('change', () => $('scope').value !== AN_AD && go(ofChoice($('scope').value)));
$('find-text').addEventListener('input', () => {
  $('find-text').setCustomValidity('');
  const { all } = found($('find-text').value);
  $('find-names').replaceChildren(...all.slice(0, FOUND_MAX).map((row) => new Option('', textOf(row))));
});
$('find').addEventListener('submit', (event) => {
  event.preventDefault();
  const { all, only } = found($('find-text').value);
  if (only) {
    $('find-text').value = '';
    return go(ofChoice(choiceOf(only)));
  }
  $('find-text').setCustomValidity(all.length === 0 ? 'No campaign has such a name.' : `${all.length} campaigns have such a name.`);
  $('find-text').reportValidity();
});
